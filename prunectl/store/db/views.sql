-- The macros and views of results.duckdb: what the tables on screen show. Being views they are never behind the tables.

-- Quantiles of Student's t by degrees of freedom from 1 on; the last one is the normal distribution's. The first list is
-- that of 95 %, the second of 97.5 %, the m-th of 1 − 5 %/m; the last stands for all that are more.
CREATE MACRO t_lists() AS (
    SELECT list(q.ts ORDER BY q.comparisons)
    FROM (SELECT comparisons, list(t ORDER BY df) AS ts FROM t_quantiles GROUP BY comparisons) q
);

-- Macros named ..._of take these lists as a column: a subquery in each place would double the time to plan `ranking`.
-- Beyond the table t is interpolated in 1/df to the normal distribution's quantile: never too small.
CREATE MACRO t_of(q, df) AS
    CASE WHEN df < 1 THEN NULL
         WHEN df < len(q) THEN list_extract(q, df::BIGINT)
         ELSE q[-1] + (q[-2] - q[-1]) * (len(q) - 1) / df END;

CREATE MACRO t_among_of(lists, comparisons, df) AS t_of(lists[least(comparisons, len(lists))], df);

-- The 97.5 % quantile of Student's t, for 95 % intervals.
CREATE MACRO t975(freedom) AS t_among_of(t_lists(), 2, freedom);

-- Trials are replications of each other where any two of a cell differ in all seeds. Where they do not, as where seeds
-- are crossed, they have part of their chance in common: their spread says nothing of how far the mean is off.
CREATE MACRO replications(init, orders, augment) AS
    count(*) = least(count(DISTINCT init), count(DISTINCT orders), count(DISTINCT augment));

-- A rate logged again after a resume starts no new run: only changes of the rate are kept.
CREATE VIEW schedules AS
SELECT stage, first_step, lr
FROM rates
QUALIFY lr IS DISTINCT FROM lag(lr) OVER (PARTITION BY stage ORDER BY first_step)
     OR row_number() OVER (PARTITION BY stage ORDER BY first_step) = 1;

-- A version of a plan is used when it is made and whenever it is run again; the last one used is the current one.
CREATE VIEW plan_versions AS
WITH used AS (
    SELECT digest, max(started) AS started
    FROM (SELECT unnest(plans) AS digest, started FROM runs) GROUP BY digest
)
SELECT p.plan,
       row_number() OVER (PARTITION BY p.plan ORDER BY coalesce(p.made, p.created) NULLS FIRST, p.digest) AS version,
       count(*) OVER (PARTITION BY p.plan) AS versions,
       greatest(p.created, u.started) AS used,
       row_number() OVER (PARTITION BY p.plan ORDER BY used DESC NULLS LAST, p.digest DESC) = 1 AS current,
       p.digest, p.file
FROM plans p LEFT JOIN used u USING (digest);

CREATE VIEW current_plans AS
SELECT plan, version, digest, used FROM plan_versions WHERE current;

-- What is named ..._all has every version of every plan, one after the other; without it, the current one.
CREATE VIEW iterations_all AS
SELECT t.trial, p.iteration, p.stage, t.cell, v.plan, v.version, v.current, t.network, t.dataset, t.task, t.recipe,
       t.strategy, t.schedule, t.criterion, t.scope, t.granularity, t.retrain, t.seed, t.order_seed, t.augment_seed,
       p.target_sparsity,
       1 - s.kept / s.prunable AS sparsity,
       s.prunable / nullif(s.kept, 0) AS compression,
       s.kept, s.prunable, s.parameters, s.kept_parameters, s.macs, s.macs_dense,
       s.score_pruned, s.score_start, s.score, s.best_score, s.validation_score, s.train_score, s.other_metrics,
       s.agreement, s.ece,
       s.accuracy_pruned, s.accuracy_start, s.accuracy, s.top5, s.best_accuracy, s.validation_accuracy,
       s.train_accuracy, s.loss, s.train_loss,
       coalesce(s.flag, CASE WHEN len(s.dead_layers) > 0 THEN 'dead layers' END) AS flag,
       CASE WHEN p.iteration = 0 THEN 0 ELSE s.train_epochs END AS retrain_epochs,
       sum(CASE WHEN p.iteration = 0 THEN 0 ELSE s.train_epochs END)
           OVER (PARTITION BY v.plan, v.version, v.current, t.trial ORDER BY p.iteration) AS search_epochs,
       search_epochs + max(CASE WHEN p.iteration = 0 THEN s.train_epochs END)
           OVER (PARTITION BY v.plan, v.version, v.current, t.trial) AS total_epochs,
       s.seconds, s.device, s.device_name, s.started, s.ended
FROM plan_versions v
JOIN plan_trials m USING (digest)
JOIN trials t USING (trial)
JOIN paths p USING (trial)
JOIN stages s USING (stage)
WHERE s.done;

CREATE VIEW iterations AS
SELECT * EXCLUDE (version, current) FROM iterations_all WHERE current;

-- What validation picks out of each sweep, once all of its options are done: the best score there, of equal ones the
-- first in the order of the grid. Beside it stands what choosing on the test set would have picked.
CREATE VIEW picks_all AS
WITH options AS (
    SELECT v.plan, v.version, v.current, c.selection, c.over, c.cell, c.position, c.trial, t.seed, t.order_seed, t.augment_seed,
           p.iteration,
           p.target_sparsity, p.stage, CASE c.over WHEN 'retrain' THEN t.retrain ELSE t.strategy END AS option,
           coalesce(s.done, false) AS done, s.score, s.validation_score, s.test_items, s.ended, s.train_epochs,
           first_value(p.stage) OVER path AS dense_stage,
           sum(CASE WHEN p.iteration = 0 THEN 0 ELSE s.train_epochs END) OVER path AS search_epochs,
           CASE WHEN m.higher_is_better IS NOT FALSE THEN 1 ELSE -1 END AS sign, m.per_item
    FROM plan_selections c
    JOIN plan_versions v USING (digest)
    JOIN trials t USING (trial)
    JOIN paths p USING (trial)
    LEFT JOIN tasks m ON m.task = t.task AND m.position = 0
    LEFT JOIN stages s ON s.stage = p.stage AND s.done
    WINDOW path AS (PARTITION BY v.plan, v.version, v.current, c.cell, c.trial ORDER BY p.iteration)
), chosen AS (
    SELECT plan, version, current, selection, over, cell, iteration, seed, order_seed, augment_seed, target_sparsity, sign,
           count(*) AS options,
           bool_and(done) AND count(validation_score) > 0 AS done,
           arg_min(trial, position) AS first_trial,
           first({trial: trial, stage: stage, dense_stage: dense_stage, option: option, score: score,
                  validation_score: validation_score}
                 ORDER BY sign * validation_score DESC, position)
               FILTER (NOT isnan(validation_score)) AS pick,
           first({option: option, score: score} ORDER BY sign * score DESC, position)
               FILTER (NOT isnan(score)) AS top,
           sum(train_epochs) AS retrain_epochs, sum(search_epochs) AS search_epochs, min(ended) AS first_ended,
           max(per_item / test_items) AS resolution
    FROM options
    WHERE iteration > 0
    GROUP BY ALL
)
SELECT h.plan, h.version, h.current, h.cell, t.network, t.dataset, t.task, t.recipe, h.selection AS strategy,
       t.schedule, t.criterion, t.scope, t.granularity,
       CASE h.over WHEN 'retrain' THEN 'by validation' ELSE t.retrain END AS retrain,
       h.seed, h.order_seed, h.augment_seed, h.iteration, h.target_sparsity, h.options,
       CASE WHEN h.done THEN h.pick.trial END AS trial,
       CASE WHEN h.done THEN h.pick.stage END AS stage,
       CASE WHEN h.done THEN h.pick.dense_stage END AS dense_stage,
       CASE WHEN h.done THEN h.pick.option END AS picked,
       CASE WHEN h.done THEN h.pick.validation_score END AS validation_score,
       CASE WHEN h.done THEN h.pick.score END AS score,
       CASE WHEN h.done THEN h.top.option END AS picked_by_test,
       CASE WHEN h.done THEN h.top.score END AS score_by_test,
       CASE WHEN h.done THEN h.sign * (h.top.score - h.pick.score) END AS flattery,
       CASE WHEN h.done THEN h.retrain_epochs END AS retrain_epochs,
       CASE WHEN h.done THEN h.search_epochs END AS search_epochs,
       h.first_ended, h.resolution
FROM chosen h JOIN trials t ON t.trial = h.first_trial;

CREATE VIEW picks AS
SELECT * EXCLUDE (version, current) FROM picks_all WHERE current;

-- How much the score would have been flattered by choosing on the test set: a row per cell that validation chooses.
CREATE VIEW selections_all AS
WITH cells AS (
    SELECT plan, version, current, network, dataset, task, recipe, schedule, strategy, criterion, scope, granularity,
           retrain, cell, iteration, target_sparsity, max(options) AS options,
           count(flattery) AS n, count(*) AS planned,
           round(avg(score) FILTER (flattery IS NOT NULL), 9) AS mean,
           round(avg(score_by_test) FILTER (flattery IS NOT NULL), 9) AS mean_by_test,
           round(avg(flattery), 9) AS flattery,
           CASE WHEN replications(seed, order_seed, augment_seed) THEN
               greatest(stddev_samp(flattery), coalesce(max(resolution), 0)) / sqrt(count(flattery)) END AS flattery_ci,
           to_json(histogram(picked)) AS picks
    FROM picks_all
    GROUP BY ALL
)
SELECT cells.* REPLACE (round(t_of(lists[2], n - 1) * flattery_ci, 9) AS flattery_ci)
FROM cells, (SELECT t_lists() AS lists);

CREATE VIEW selections AS
SELECT * EXCLUDE (version, current) FROM selections_all WHERE current;

-- Every number that a version of a plan asks for, measured or not: one row per cell, iteration and seeds.
-- What validation picks has rows of its own, which name the picked trial and cost all that it was chosen among.
-- The dense networks are rows of their own, once per stage and not once per trial that shares it.
CREATE VIEW points_all AS
WITH asked AS (
    SELECT v.plan, v.version, v.current, t.cell, t.network, t.dataset, t.task, t.recipe, t.strategy, t.schedule,
           t.criterion, t.scope, t.granularity, t.retrain, t.seed, t.order_seed, t.augment_seed, p.iteration,
           p.target_sparsity, t.trial, p.stage,
           first_value(p.stage) OVER (
               PARTITION BY v.plan, v.version, v.current, t.trial ORDER BY p.iteration) AS dense_stage
    FROM plan_versions v
    JOIN plan_trials m USING (digest)
    JOIN trials t USING (trial)
    JOIN paths p USING (trial)
), rows AS (
    SELECT *, false AS selected, NULL AS picked, NULL AS swept_retrain_epochs, NULL AS swept_search_epochs
    FROM asked WHERE iteration > 0
    UNION ALL
    SELECT plan, version, current, cell, network, dataset, task, recipe, strategy, schedule, criterion, scope,
           granularity, retrain, seed, order_seed, augment_seed, iteration, target_sparsity, trial, stage, dense_stage,
           true, picked,
           retrain_epochs, search_epochs
    FROM picks_all
    UNION ALL
    SELECT plan, version, current, left(md5(concat_ws('|', 'dense', network, dataset, recipe)), 16), network, dataset,
           task, recipe, 'dense', 'dense', 'none', 'none', 'none', 'none', seed, order_seed, augment_seed, 0, 0.0,
           min(trial), stage, stage, false, NULL, NULL, NULL
    FROM asked WHERE iteration = 0
    GROUP BY plan, version, current, network, dataset, task, recipe, seed, order_seed, augment_seed, stage
)
SELECT r.* EXCLUDE (selected, picked, swept_retrain_epochs, swept_search_epochs),
       coalesce(s.done, false) AS done,
       s.score,
       s.score - d.score AS delta,
       s.best_score, s.validation_score, s.agreement, s.ece,
       s.accuracy, s.top5, s.best_accuracy, s.validation_accuracy, s.test_items,
       coalesce(s.flag, CASE WHEN len(s.dead_layers) > 0 THEN 'dead layers' END) AS flag,
       s.kept, s.prunable, s.kept_parameters, s.parameters, s.macs, s.macs_dense,
       CASE WHEN r.selected THEN r.swept_retrain_epochs WHEN r.iteration = 0 THEN 0 ELSE s.train_epochs END
           AS retrain_epochs,
       -- Of what is done only: the window also sums up to stages that are still to come.
       CASE WHEN r.selected THEN r.swept_search_epochs
            WHEN s.done THEN sum(CASE WHEN r.iteration = 0 THEN 0 ELSE s.train_epochs END)
           OVER (PARTITION BY r.plan, r.version, r.current, r.trial, r.selected ORDER BY r.iteration) END
           AS search_epochs,
       search_epochs + d.train_epochs AS total_epochs,
       s.seconds, r.selected, r.picked
FROM rows r
LEFT JOIN stages s ON s.stage = r.stage AND s.done
LEFT JOIN stages d ON d.stage = r.dense_stage AND d.done;

CREATE VIEW points AS
SELECT * EXCLUDE (version, current) FROM points_all WHERE current;

-- Rounded to 9 digits, for sums of floats differ in their last bits with the order of the rows and ranks must not.
CREATE VIEW leaderboard_all AS
WITH cells AS (
SELECT plan, version, current, network, dataset, task, recipe, schedule, strategy, criterion, scope, granularity, retrain, cell,
       iteration, target_sparsity, selected,
       1 - sum(kept) / sum(prunable) AS sparsity,
       sum(prunable) / nullif(sum(kept), 0) AS compression,
       count(score) AS n,
       count(*) AS planned,
       round(avg(score), 9) AS mean,
       round(stddev_samp(score), 9) AS std,
       median(score) AS median,
       min(score) AS min,
       max(score) AS max,
       stddev_samp(score) / sqrt(count(score)) AS ci,
       count(delta) AS delta_n,
       round(avg(delta), 9) AS delta,
       round(stddev_samp(delta), 9) AS delta_std,
       stddev_samp(delta) / sqrt(count(delta)) AS delta_ci,
       -- Few seeds can come out alike by chance: a spread is at least what one test item makes.
       greatest(stddev_samp(delta), coalesce(max(t.per_item / test_items), 0)) / sqrt(count(delta)) AS delta_bound,
       round(avg(best_score), 9) AS best_score,
       round(avg(validation_score), 9) AS validation_score,
       round(avg(agreement), 9) AS agreement,
       round(avg(ece), 9) AS ece,
       round(avg(top5), 9) AS top5,
       round(avg(best_accuracy), 9) AS best_accuracy,
       round(avg(validation_accuracy), 9) AS validation_accuracy,
       round(avg(retrain_epochs), 9) AS retrain_epochs,
       round(avg(search_epochs), 9) AS search_epochs,
       round(avg(total_epochs), 9) AS total_epochs,
       round(avg(seconds), 9) AS seconds,
       avg(macs) AS macs,
       avg(macs_dense) AS macs_dense,
       avg(kept) AS kept,
       avg(prunable) AS prunable,
       avg(kept_parameters) AS kept_parameters,
       avg(parameters) AS parameters,
       count(flag) AS flagged,
       count(*) FILTER (flag = 'diverged') AS diverged,
       count(*) FILTER (flag = 'collapsed') AS collapsed,
       max(t.per_item / test_items) AS resolution,
       list(stage ORDER BY seed, order_seed, augment_seed) AS stages,
       replications(seed, order_seed, augment_seed) AS independent,
       any_value(CASE WHEN t.higher_is_better THEN 1 WHEN NOT t.higher_is_better THEN -1 END) AS sign
FROM points_all LEFT JOIN (SELECT task, per_item, higher_is_better FROM tasks WHERE position = 0) t USING (task)
GROUP BY ALL
)
SELECT cells.* EXCLUDE (sign, stages) REPLACE (
    CASE WHEN independent THEN round(t_of(lists[2], n - 1) * ci, 9) END AS ci,
    CASE WHEN independent THEN round(t_of(lists[2], delta_n - 1) * delta_ci, 9) END AS delta_ci,
    CASE WHEN independent THEN round(delta - coalesce(sign, 1) * t_of(lists[1], delta_n - 1) * delta_bound, 9) END
        AS delta_bound
), min(cell) OVER (
    PARTITION BY plan, version, current, network, dataset, task, recipe, schedule, target_sparsity, iteration = 0, stages,
                 CASE WHEN selected THEN cell END  -- it costs more than the stages that it picks
) AS entry
FROM cells, (SELECT t_lists() AS lists);

CREATE VIEW leaderboard AS
SELECT * EXCLUDE (version, current) FROM leaderboard_all WHERE current;

-- Whether the tasks' scores are better the higher (1) or the lower (-1): what a score is ordered by after it.
CREATE VIEW directions AS
SELECT task, CASE WHEN higher_is_better THEN 1 ELSE -1 END AS sign FROM tasks WHERE position = 0;

-- A column is one sparsity of one table. Among its methods with three trials or more, which are replications and of
-- which none failed (diverged or collapsed) in a seed where another did not, a method goes unmarked if one of the k − 1 others beats it: in the t test
-- paired by seed, one-sided at 5 %/(k − 1). So a truly best method stays marked with at least 95 %, whatever the spreads
-- are. Cells that share all their stages are one entry. All comparisons are over the seeds that both have.
CREATE VIEW ranking_all AS
WITH entries AS (  -- its columns by name: a table used so often is made as it stands, with what nobody reads
    SELECT plan, version, current, network, dataset, task, recipe, schedule, target_sparsity, strategy, criterion, scope,
           granularity, retrain, cell, iteration, n, planned, mean, std, ci, delta, search_epochs, flagged, resolution,
           independent, entry, coalesce(d.sign, 1) AS sign,
           dense_rank() OVER (
               ORDER BY plan, version, current, network, dataset, task, recipe, schedule, target_sparsity) AS col
    FROM leaderboard_all l LEFT JOIN directions d USING (task)
    WHERE iteration > 0 AND n > 0
), scores AS (
    SELECT e.col, e.entry, p.seed, p.order_seed, p.augment_seed, e.sign * p.score AS good,
           coalesce(p.flag IN ('diverged', 'collapsed'), false) AS failed
    FROM entries e JOIN points_all p USING (plan, version, current, cell, iteration)
    WHERE e.cell = e.entry AND p.score IS NOT NULL
), uneven AS (
    SELECT DISTINCT a.col, a.entry
    FROM scores a JOIN scores b USING (col, seed, order_seed, augment_seed)
    WHERE a.failed AND NOT b.failed
), contenders AS (
    SELECT e.col, e.entry, coalesce(e.resolution, 0) AS resolution, count(*) OVER (PARTITION BY e.col) AS k
    FROM entries e LEFT JOIN uneven u ON u.col = e.col AND u.entry = e.entry
    WHERE e.cell = e.entry AND e.n >= 3 AND e.independent AND u.entry IS NULL
), duels AS (
    SELECT a.col, a.entry, b.entry AS rival, count(*) AS pairs, round(avg(b.good - a.good), 9) AS ahead,
           round(stddev_samp(b.good - a.good), 9) AS spread
    FROM scores a JOIN scores b ON b.col = a.col AND b.seed = a.seed AND b.order_seed = a.order_seed
         AND b.augment_seed = a.augment_seed AND b.entry <> a.entry
    GROUP BY ALL
), tests AS (
    SELECT d.*, a.k, greatest(d.spread, a.resolution) / sqrt(d.pairs) AS error
    FROM duels d
    JOIN contenders a ON a.col = d.col AND a.entry = d.entry
    JOIN contenders b ON b.col = d.col AND b.entry = d.rival
    WHERE d.pairs > 1
), beaten AS (
    SELECT DISTINCT col, entry
    FROM tests, (SELECT t_lists() AS lists)
    WHERE ahead > 0 AND ahead > t_among_of(lists, k - 1, pairs - 1) * error
), unbeaten AS (
    SELECT c.col, c.entry, count(*) OVER (PARTITION BY c.col) AS u
    FROM contenders c LEFT JOIN beaten b ON b.col = c.col AND b.entry = c.entry
    WHERE b.entry IS NULL
), means AS (  -- the first over the seeds that all unbeaten ones have, the second over their own
    SELECT col, entry, avg(good) FILTER (shared) AS mean, avg(good) AS own
    FROM (SELECT s.*, count(*) OVER (PARTITION BY s.col, s.seed, s.order_seed, s.augment_seed) = u.u AS shared
          FROM scores s JOIN unbeaten u ON u.col = s.col AND u.entry = s.entry)
    GROUP BY ALL
), stars AS (
    SELECT col, first(entry ORDER BY round(coalesce(mean, own), 9) DESC, entry) AS star FROM means GROUP BY col
), ranked AS (
    SELECT a.col, a.entry,
           1 + count(*) FILTER (coalesce(d.ahead, b.sign * b.mean - a.sign * a.mean) > 0) AS rank
    FROM entries a JOIN entries b ON b.col = a.col AND b.cell = b.entry
    LEFT JOIN duels d ON d.col = a.col AND d.entry = a.entry AND d.rival = b.entry
    WHERE a.cell = a.entry
    GROUP BY ALL
), leaders AS (
    SELECT r.col, coalesce(any_value(s.star), first(r.entry ORDER BY r.rank, r.entry)) AS leader
    FROM ranked r LEFT JOIN stars s USING (col)
    GROUP BY r.col
), spreads AS (
    SELECT col, round(sqrt(avg(error ** 2 * pairs)), 9) AS spread, min(pairs) AS least FROM tests GROUP BY col
)
SELECT e.plan, e.version, e.current, e.network, e.dataset, e.task, e.recipe, e.schedule, e.target_sparsity, r.rank,
       e.strategy, e.criterion, e.scope, e.granularity, e.retrain, e.cell, e.iteration, e.n, e.planned, e.mean, e.std,
       e.ci, e.delta, e.search_epochs, e.flagged, e.entry,
       s.star IS NOT DISTINCT FROM e.entry AS best,
       u.entry IS NOT NULL AND s.star <> e.entry AS tied,
       v.entry IS NOT NULL AS uneven,
       -e.sign * d.ahead AS gap,
       d.spread AS gap_std,
       CASE WHEN e.independent THEN round(t_of(lists[2], d.pairs - 1) * d.spread / sqrt(d.pairs), 9) END AS gap_ci,
       coalesce(d.pairs, 0) AS pairs,
       coalesce(c.k, 0) AS contenders,
       p.spread, p.least AS spread_pairs
FROM entries e
JOIN ranked r USING (col, entry)
JOIN leaders l USING (col)
LEFT JOIN stars s USING (col)
LEFT JOIN unbeaten u ON u.col = e.col AND u.entry = e.entry
LEFT JOIN uneven v ON v.col = e.col AND v.entry = e.entry
LEFT JOIN duels d ON d.col = e.col AND d.entry = e.entry AND d.rival = l.leader
LEFT JOIN (SELECT col, any_value(k) AS k FROM contenders GROUP BY col) c ON c.col = e.col
LEFT JOIN spreads p ON p.col = e.col,
(SELECT t_lists() AS lists);

CREATE VIEW ranking AS
SELECT * EXCLUDE (version, current) FROM ranking_all WHERE current;

-- How far each method can be compressed without loss: up to the first level whose change from the own dense networks
-- is not shown, by a one-sided 95 % bound over the seeds, to be better than −margin.
CREATE VIEW no_loss_all AS
WITH levels AS (
    SELECT l.*, m.margin,
           coalesce(d.sign, 1) * l.delta_bound > -m.margin * CASE WHEN t.unit = '%' THEN 1 ELSE abs(l.mean - l.delta) / 100 END
               AS kept_up
    FROM leaderboard_all l
    LEFT JOIN directions d USING (task) LEFT JOIN tasks t ON t.task = l.task AND t.position = 0,
    (SELECT unnest([0.25, 0.5, 1.0]) AS margin) m
    WHERE l.iteration > 0 AND l.n > 0
), firsts AS (
    SELECT *, min(target_sparsity) FILTER (kept_up IS NOT TRUE) OVER (
        PARTITION BY plan, version, current, network, dataset, task, recipe, schedule, strategy, criterion, scope,
                     granularity, retrain, margin) AS first_loss
    FROM levels
)
SELECT plan, version, current, network, dataset, task, recipe, schedule, strategy, criterion, scope, granularity,
       retrain, margin,
       max(compression) FILTER (first_loss IS NULL OR target_sparsity < first_loss) AS compression,
       max(compression) AS measured
FROM firsts
GROUP BY ALL;

CREATE VIEW no_loss AS
SELECT * EXCLUDE (version, current) FROM no_loss_all WHERE current;
