-- Change from the same seeds' dense network: every trial, and whether the 95 % interval of the mean covers 0
-- :plan %
SELECT p.plan, p.network, p.dataset, p.strategy, p.schedule, p.target_sparsity, p.seed, p.order_seed,
       p.augment_seed, p.score, p.accuracy,
       p.score - p.delta AS dense, p.delta, l.delta AS mean_delta, l.delta_ci,
       abs(l.delta) <= l.delta_ci AS covers_zero
FROM points p JOIN leaderboard l USING (plan, cell, iteration)
WHERE p.iteration > 0 AND p.score IS NOT NULL AND p.plan LIKE $plan
ORDER BY p.plan, p.network, p.dataset, p.strategy, p.target_sparsity, p.seed, p.order_seed,
         p.augment_seed;
