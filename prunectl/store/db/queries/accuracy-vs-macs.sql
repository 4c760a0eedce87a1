-- Score and change from dense at equal theoretical MACs, with half their 95 % intervals, beside sparsity and compression
-- :plan %
SELECT plan, network, dataset, recipe, strategy, schedule, criterion, scope, granularity, retrain, target_sparsity,
       sparsity, compression, macs, macs_dense / nullif(macs, 0) AS theoretical_speedup, n, mean, ci, delta, delta_ci
FROM leaderboard
WHERE n > 0 AND plan LIKE $plan
ORDER BY plan, network, dataset, recipe, macs DESC, strategy, schedule, criterion, scope, granularity, retrain, cell;
