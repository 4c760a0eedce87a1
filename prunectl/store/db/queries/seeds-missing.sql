-- Numbers that a plan still lacks, and what their stage last logged
-- :plan %
SELECT p.plan, p.network, p.dataset, p.strategy, p.schedule, p.target_sparsity, p.seed, p.order_seed,
       p.augment_seed, p.trial, p.iteration, p.stage, e.last, e.at
FROM points p
LEFT JOIN (SELECT stage, arg_max(type, (time, seq)) AS last, max(time) AS at FROM events GROUP BY stage) e
       USING (stage)
WHERE p.score IS NULL AND NOT p.selected AND p.plan LIKE $plan
ORDER BY p.plan, p.network, p.dataset, p.strategy, p.target_sparsity, p.seed, p.order_seed,
         p.augment_seed;
