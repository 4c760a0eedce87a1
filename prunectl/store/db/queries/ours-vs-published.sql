-- Medians beside published ones, like with like, at the nearest sparsity (compression within 5 %), minus dense
-- :source renda2020
-- :plan %
WITH ours AS (
    SELECT l.*, d.mean AS dense,
           CASE WHEN l.granularity = 'weight' THEN 'unstructured'
                WHEN regexp_full_match(l.granularity, 'filters renda2020-[ab]')
                THEN 'structured-' || right(l.granularity, 1)
                ELSE 'structured' END AS structure,
           regexp_extract(l.schedule, '^[a-z]+(-[a-z]+)*') AS kind,
           TRY_CAST(regexp_extract(l.schedule, '[0-9]*[.][0-9]+') AS DOUBLE) AS prune_step,
           string_split(l.recipe, ' ') AS words
    FROM leaderboard l
    JOIN leaderboard d USING (plan, network, dataset, task, recipe)
    WHERE l.iteration > 0 AND d.iteration = 0 AND l.n > 0 AND l.task = 'classification' AND l.plan LIKE $plan
      AND l.criterion = 'magnitude'
      AND l.scope = CASE WHEN starts_with(l.granularity, 'filters ') THEN 'layerwise' ELSE 'global' END
), theirs AS (
    -- The reproduction's lengths, which its figures leave out; the rate that Renda et al. state once for all.
    SELECT * REPLACE (
        CASE WHEN source <> 'mikler2021' THEN retrain_epochs
             ELSE coalesce(retrain_epochs,
                           2.56 * CASE WHEN starts_with(network, 'wrn') THEN 80 ELSE 72 END
                           - CASE WHEN method = 'weight-rewind' THEN 20.48 ELSE 0 END) END AS retrain_epochs,
        coalesce(prune_step, CASE WHEN source = 'renda2020' THEN 0.2 END) AS prune_step)
    FROM published
    WHERE source = $source AND method <> 'dense' AND median IS NOT NULL AND dense IS NOT NULL
)
SELECT o.plan, o.network, o.dataset, o.schedule, o.strategy, o.cell, o.iteration, o.target_sparsity, o.retrain_epochs,
       o.n, o.median - o.dense AS delta, p.sparsity AS published_sparsity,
       p.retrain_epochs AS published_retrain_epochs, p.n AS published_n,
       p.median - p.dense AS published_delta,
       (o.median - o.dense) - (p.median - p.dense) AS difference
FROM ours o
JOIN theirs p ON p.network = o.network AND p.dataset = o.dataset AND p.method = o.strategy AND p.schedule = o.kind
     AND list_contains(
         CASE $source WHEN 'renda2020' THEN ['renda2020-cifar', 'renda2020-cifar-vgg', 'renda2020-imagenet']
                      WHEN 'mikler2021' THEN ['mikler2021-resnet', 'mikler2021-wrn']
                      ELSE ['mikler2021-thesis-wrn'] END, o.words[1])
     AND len(list_filter(o.words[2:], lambda word: NOT regexp_matches(word,
         '^(precision|optimizer_state|deterministic|evaluate|micro_batch|retrain|source|unverified)[.=]'))) = 0
     AND (p.structure = o.structure OR (o.structure = 'structured' AND starts_with(p.structure, 'structured')))
     AND (o.kind <> 'iterative' OR p.prune_step IS NULL OR o.prune_step IS NULL OR p.prune_step = o.prune_step)
     AND abs(ln((1 - o.sparsity) / (1 - p.sparsity))) <= ln(1.05) + 1e-9
     AND (p.retrain_epochs IS NULL OR o.strategy = 'reinit'
          OR abs(ln(o.retrain_epochs / p.retrain_epochs)) <= ln(1.05) + 1e-9)
QUALIFY row_number() OVER (PARTITION BY o.plan, o.cell, o.iteration
                           ORDER BY abs(o.sparsity - p.sparsity),
                                    abs(coalesce(p.retrain_epochs, 0) - coalesce(o.retrain_epochs, 0)),
                                    p.n DESC NULLS LAST, p.figure, p.structure, p.prune_step) = 1
ORDER BY o.plan, o.network, o.dataset, o.schedule, o.strategy, o.target_sparsity;
