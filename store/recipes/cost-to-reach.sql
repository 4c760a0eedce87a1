-- The most compressed cell of each method that stays within a loss of its dense network, and what the search cost
-- :loss 0.5
-- :plan %
SELECT plan, network, dataset, recipe, schedule, strategy, criterion, scope, granularity, retrain,
       max(compression) AS compression, arg_max(delta, compression) AS delta,
       arg_max(n, compression) AS n, arg_max(search_epochs, compression) AS search_epochs
FROM leaderboard LEFT JOIN directions USING (task)
WHERE iteration > 0 AND delta * coalesce(sign, 1) >= -CAST($loss AS DOUBLE) AND plan LIKE $plan
GROUP BY plan, network, dataset, task, recipe, schedule, strategy, criterion, scope, granularity, retrain
ORDER BY network, dataset, compression DESC, search_epochs, strategy, schedule, criterion, scope, granularity,
         retrain, plan, recipe;
