-- Medians beside published ones at the nearest sparsity (compression within 5 %), as changes from each one's dense network
-- :source renda2020
-- :plan %
WITH ours AS (
    SELECT l.*, d.mean AS dense
    FROM leaderboard l
    JOIN leaderboard d USING (plan, network, dataset, task, recipe)
    WHERE l.iteration > 0 AND d.iteration = 0 AND l.n > 0 AND l.task = 'classification' AND l.plan LIKE $plan
)
SELECT o.plan, o.network, o.dataset, o.schedule, o.strategy, o.target_sparsity, o.retrain_epochs, o.n,
       o.median - o.dense AS delta, p.sparsity AS published_sparsity,
       p.retrain_epochs AS published_retrain_epochs, p.n AS published_n,
       p.median - p.dense AS published_delta,
       (o.median - o.dense) - (p.median - p.dense) AS difference,
       o.median - o.dense BETWEEN p.low - p.dense AND p.high - p.dense AS inside
FROM ours o
JOIN published p ON p.source = $source AND p.network = o.network AND p.dataset = o.dataset
     AND p.method = o.strategy AND o.schedule LIKE p.schedule || '%'
     AND (p.prune_step IS NULL OR p.prune_step = TRY_CAST(regexp_extract(o.schedule, '[0-9.]+') AS DOUBLE))
     AND (p.structure = 'unstructured') = (o.granularity = 'weight')
     AND abs(ln((1 - o.sparsity) / (1 - p.sparsity))) <= ln(1.05)
     AND (p.retrain_epochs IS NULL OR abs(ln(o.retrain_epochs / p.retrain_epochs)) <= ln(1.05))
QUALIFY row_number() OVER (PARTITION BY o.plan, o.cell, o.iteration
                           ORDER BY abs(o.sparsity - p.sparsity), p.n DESC NULLS LAST) = 1
ORDER BY o.plan, o.network, o.dataset, o.schedule, o.strategy, o.target_sparsity;
