-- Accuracy against multiply-adds: theoretical speed-up beside compression
-- :plan %
SELECT plan, network, dataset, strategy, schedule, target_sparsity, compression, macs,
       macs_dense / nullif(macs, 0) AS speedup, n, mean, delta, delta_ci
FROM leaderboard
WHERE n > 0 AND plan LIKE $plan
ORDER BY plan, network, dataset, macs DESC, strategy;
