-- Methods × sparsities of a plan: n, mean ± std, change from the dense network, best first
-- :plan %
SELECT l.plan, l.network, l.dataset, l.schedule, l.target_sparsity, r.rank, l.strategy, l.criterion, l.scope,
       l.granularity, l.retrain, l.n, l.planned, l.mean, l.std, l.delta, l.delta_ci, r.best, r.tied, r.contenders,
       l.search_epochs, l.total_epochs, l.flagged
FROM leaderboard l LEFT JOIN ranking r USING (plan, cell, iteration)
WHERE l.plan LIKE $plan
ORDER BY l.plan, l.network, l.dataset, l.schedule, l.target_sparsity, r.rank, l.strategy;
