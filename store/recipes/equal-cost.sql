-- One-shot beside iterative pruning at equal total cost: within each budget of epochs, both as long as they can, by sparsity
-- :plan %
WITH cells AS (
    SELECT {plan: plan, network: network, dataset: dataset, task: task, recipe: recipe, strategy: strategy,
            criterion: criterion, scope: scope, granularity: granularity, target_sparsity: target_sparsity} AS method,
           schedule, cell, iteration, list(stage ORDER BY seed, order_seed, augment_seed) AS stages,
           max(total_epochs) AS epochs  -- not the mean: a seed that diverged ended early
    FROM points
    WHERE iteration > 0 AND score IS NOT NULL AND total_epochs IS NOT NULL AND plan LIKE $plan
    GROUP BY ALL
), sides AS (  -- of every iterative schedule that has one-shot pruning beside it
    SELECT method, i.schedule, c.cell, c.iteration, c.stages, c.epochs, c.schedule = 'one-shot' AS one_shot
    FROM (SELECT DISTINCT method, schedule FROM cells WHERE schedule <> 'one-shot') i JOIN cells c USING (method)
    WHERE c.schedule IN ('one-shot', i.schedule)
    QUALIFY bool_or(one_shot) OVER (PARTITION BY method, i.schedule)
), within AS (  -- the longest training within the budget, whatever its score: nothing is chosen on the test set
    SELECT method, schedule, budget, cell, iteration, stages, s.epochs, one_shot
    FROM (SELECT DISTINCT method, schedule, epochs AS budget FROM sides) JOIN sides s USING (method, schedule)
    WHERE s.epochs <= budget
    QUALIFY row_number() OVER (PARTITION BY method, schedule, budget, one_shot ORDER BY s.epochs DESC, cell) = 1
), pairs AS (
    SELECT method, schedule, budget, a.cell AS a, b.cell AS b, a.iteration AS a_iteration, b.iteration AS b_iteration,
           a.epochs AS one_shot_epochs, b.epochs AS iterative_epochs, a.stages = b.stages AS same
    FROM (FROM within WHERE one_shot) a FULL JOIN (FROM within WHERE NOT one_shot) b USING (method, schedule, budget)
), differences AS (
    SELECT p.a, p.b, p.a_iteration, p.b_iteration, count(*) AS pairs, avg(y.score - x.score) AS difference,
           stddev_samp(y.score - x.score) AS spread
    FROM (SELECT DISTINCT method.plan AS plan, a, b, a_iteration, b_iteration FROM pairs) p
    JOIN points x ON x.plan = p.plan AND x.cell = p.a AND x.iteration = p.a_iteration
    JOIN points y ON y.plan = p.plan AND y.cell = p.b AND y.iteration = p.b_iteration AND y.seed = x.seed
         AND y.order_seed = x.order_seed AND y.augment_seed = x.augment_seed
    WHERE x.score IS NOT NULL AND y.score IS NOT NULL
    GROUP BY ALL
), compared AS (  -- a spread is at least what one test item makes, as in the bounds of the leaderboard
    SELECT p.*, o.mean AS one_shot, o.ci AS one_shot_ci, o.n AS one_shot_n, i.mean AS iterative,
           i.ci AS iterative_ci, i.n AS iterative_n, d.difference, d.pairs, coalesce(s.sign, 1) AS sign,
           CASE WHEN o.independent THEN
               t975(d.pairs - 1) * greatest(d.spread, if(same, 0, coalesce(o.resolution, 0))) / sqrt(d.pairs)
           END AS difference_ci
    FROM pairs p
    LEFT JOIN leaderboard o ON o.plan = method.plan AND o.cell = p.a AND o.iteration = p.a_iteration
    LEFT JOIN leaderboard i ON i.plan = method.plan AND i.cell = p.b AND i.iteration = p.b_iteration
    LEFT JOIN differences d USING (a, b, a_iteration, b_iteration)
    LEFT JOIN directions s ON s.task = method.task
)
SELECT method.plan, method.network, method.dataset, method.recipe, method.strategy, method.criterion, method.scope,
       method.granularity, schedule, method.target_sparsity, budget, one_shot_epochs, one_shot, one_shot_ci, one_shot_n,
       iterative_epochs, iterative, iterative_ci, iterative_n, round(difference, 9) AS difference,
       round(difference_ci, 9) AS difference_ci, pairs,
       CASE WHEN one_shot IS NULL THEN 'only iterative' WHEN iterative IS NULL THEN 'only one-shot'
            WHEN same THEN 'the same networks' WHEN abs(difference) <= difference_ci THEN 'not told apart'
            WHEN difference_ci IS NOT NULL THEN if(sign * difference > 0, 'iterative', 'one-shot') END AS better
FROM compared
ORDER BY ALL;
