-- How far each method goes while every level is shown by its seeds to lose less than that of dense, and the cost
-- :loss 0.5
-- :plan %
WITH levels AS (
    SELECT l.*, coalesce(coalesce(sign, 1) * delta_bound > -CAST($loss AS DOUBLE), false) AS kept_up
    FROM leaderboard l LEFT JOIN directions USING (task)
    WHERE iteration > 0 AND n > 0 AND plan LIKE $plan
), reached AS (
    SELECT *, bool_and(kept_up) OVER (
        PARTITION BY plan, network, dataset, task, recipe, schedule, strategy, criterion, scope, granularity, retrain
        ORDER BY target_sparsity) AS all_kept_up
    FROM levels
)
SELECT plan, network, dataset, recipe, schedule, strategy, criterion, scope, granularity, retrain,
       max(compression) AS compression, arg_max(delta, compression) AS delta,
       arg_max(delta_ci, compression) AS delta_ci, arg_max(delta_bound, compression) AS delta_bound,
       arg_max(n, compression) AS n, arg_max(search_epochs, compression) AS search_epochs,
       arg_max(total_epochs, compression) AS total_epochs
FROM reached
WHERE all_kept_up
GROUP BY plan, network, dataset, task, recipe, schedule, strategy, criterion, scope, granularity, retrain
ORDER BY network, dataset, compression DESC, total_epochs, strategy, schedule, criterion, scope, granularity,
         retrain, plan, recipe;
