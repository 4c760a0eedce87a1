-- Layers that lost all their weights, by network, strategy and sparsity
SELECT network, dataset, strategy, target_sparsity, l.layer, count(DISTINCT i.stage) AS stages,
       list(DISTINCT i.seed ORDER BY i.seed) AS seeds, avg(i.score) AS mean_score,
       avg(i.accuracy) AS mean_accuracy
FROM layers l JOIN iterations i USING (stage)
WHERE l.kept = 0
GROUP BY network, dataset, strategy, target_sparsity, l.layer
ORDER BY network, dataset, strategy, target_sparsity, l.layer;
