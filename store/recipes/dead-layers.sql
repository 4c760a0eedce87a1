-- Layers that lost all their weights, by method and sparsity
SELECT plan, network, dataset, recipe, strategy, schedule, criterion, scope, granularity, retrain, target_sparsity,
       l.layer, count(DISTINCT i.stage) AS stages,
       list(DISTINCT i.seed ORDER BY i.seed) AS seeds, avg(i.score) AS mean_score,
       avg(i.accuracy) AS mean_accuracy
FROM layers l JOIN iterations i USING (stage)
WHERE l.kept = 0
GROUP BY plan, network, dataset, recipe, strategy, schedule, criterion, scope, granularity, retrain, target_sparsity,
         l.layer
ORDER BY ALL;
