-- The macros and views of results.duckdb: what the tables on screen show. Being views they are never behind the tables.

-- By degrees of freedom from 1 on; the last one is the normal distribution's.
CREATE MACRO t975_list() AS (SELECT list(t.t975 ORDER BY t.df) FROM t_quantiles t);

-- Macros named ..._of take this list as a column: a subquery in each place would double the time to plan `ranking`.
-- Beyond the table t is interpolated in 1/df to the normal distribution's quantile: with 1,000 rows to 1e-6.
CREATE MACRO t975_of(q, df) AS
    CASE WHEN df < 1 THEN NULL
         WHEN df < len(q) THEN list_extract(q, df::BIGINT)
         ELSE q[-1] + (q[-2] - q[-1]) * (len(q) - 1) / df END;

CREATE MACRO leaves_out_0(q, mean, std, n) AS t975_of(q, n - 1) * std / sqrt(n) < abs(mean);

-- Solves t²/n = (mean/std)² with t² ≈ z² + (z⁴ + z²) / 2n: right but for one up or down.
CREATE MACRO n_estimate(q, mean, std) AS ceil((q[-1] * std / mean) ** 2 + (q[-1] ** 2 + 1) / 2);

-- NULL for more than a BIGINT holds, as where scores of 50 ± 50 differ by 1e-9.
CREATE MACRO n_needed_of(q, mean, std) AS
    TRY_CAST(CASE WHEN mean = 0 THEN NULL
         WHEN std = 0 THEN 2
         WHEN leaves_out_0(q, mean, std, n_estimate(q, mean, std) - 1) THEN n_estimate(q, mean, std) - 1
         WHEN leaves_out_0(q, mean, std, n_estimate(q, mean, std)) THEN n_estimate(q, mean, std)
         ELSE n_estimate(q, mean, std) + 1 END AS BIGINT);

-- The 97.5 % quantile of Student's t, for 95 % intervals.
CREATE MACRO t975(df) AS t975_of(t975_list(), df);

-- The least n at which the 95 % interval of a mean leaves out 0, if mean and std stay as they are.
CREATE MACRO n_needed(mean, std) AS n_needed_of(t975_list(), mean, std);

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
       t.strategy, t.schedule, t.criterion, t.scope, t.granularity, t.retrain, t.seed,
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
       s.seconds, s.device, s.device_name, s.started, s.ended
FROM plan_versions v
JOIN plan_trials m USING (digest)
JOIN trials t USING (trial)
JOIN paths p USING (trial)
JOIN stages s USING (stage)
WHERE s.done;

CREATE VIEW iterations AS
SELECT * EXCLUDE (version, current) FROM iterations_all WHERE current;

-- Every number that a version of a plan asks for, measured or not: one row per cell, iteration and seed.
-- The dense networks are rows of their own, once per stage and not once per trial that shares it.
CREATE VIEW points_all AS
WITH asked AS (
    SELECT v.plan, v.version, v.current, t.cell, t.network, t.dataset, t.task, t.recipe, t.strategy, t.schedule,
           t.criterion, t.scope, t.granularity, t.retrain, t.seed, p.iteration, p.target_sparsity, t.trial, p.stage,
           first_value(p.stage) OVER (
               PARTITION BY v.plan, v.version, v.current, t.trial ORDER BY p.iteration) AS dense_stage
    FROM plan_versions v
    JOIN plan_trials m USING (digest)
    JOIN trials t USING (trial)
    JOIN paths p USING (trial)
), rows AS (
    SELECT * FROM asked WHERE iteration > 0
    UNION ALL
    SELECT plan, version, current, left(md5(concat_ws('|', 'dense', network, dataset, recipe)), 16), network, dataset,
           task, recipe, 'dense', 'dense', 'none', 'none', 'none', 'none', seed, 0, 0.0, min(trial), stage, stage
    FROM asked WHERE iteration = 0
    GROUP BY plan, version, current, network, dataset, task, recipe, seed, stage
)
SELECT r.*,
       coalesce(s.done, false) AS done,
       s.score,
       s.score - d.score AS delta,
       s.best_score, s.validation_score, s.agreement, s.ece,
       s.accuracy, s.top5, s.best_accuracy, s.validation_accuracy,
       coalesce(s.flag, CASE WHEN len(s.dead_layers) > 0 THEN 'dead layers' END) AS flag,
       s.kept, s.prunable, s.kept_parameters, s.parameters, s.macs, s.macs_dense,
       CASE WHEN r.iteration = 0 THEN 0 ELSE s.train_epochs END AS retrain_epochs,
       -- Of what is done only: the window also sums up to stages that are still to come.
       CASE WHEN s.done THEN sum(CASE WHEN r.iteration = 0 THEN 0 ELSE s.train_epochs END)
           OVER (PARTITION BY r.plan, r.version, r.current, r.trial ORDER BY r.iteration) END AS search_epochs,
       s.seconds
FROM rows r
LEFT JOIN stages s ON s.stage = r.stage AND s.done
LEFT JOIN stages d ON d.stage = r.dense_stage AND d.done;

CREATE VIEW points AS
SELECT * EXCLUDE (version, current) FROM points_all WHERE current;

-- Rounded to 9 digits, for sums of floats differ in their last bits with the order of the rows and ranks must not.
CREATE VIEW leaderboard_all AS
WITH cells AS (
SELECT plan, version, current, network, dataset, task, recipe, schedule, strategy, criterion, scope, granularity, retrain, cell,
       iteration, target_sparsity,
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
       round(avg(best_score), 9) AS best_score,
       round(avg(validation_score), 9) AS validation_score,
       round(avg(agreement), 9) AS agreement,
       round(avg(ece), 9) AS ece,
       round(avg(top5), 9) AS top5,
       round(avg(best_accuracy), 9) AS best_accuracy,
       round(avg(validation_accuracy), 9) AS validation_accuracy,
       round(avg(retrain_epochs), 9) AS retrain_epochs,
       round(avg(search_epochs), 9) AS search_epochs,
       round(avg(seconds), 9) AS seconds,
       avg(macs) AS macs,
       avg(macs_dense) AS macs_dense,
       avg(kept) AS kept,
       avg(prunable) AS prunable,
       avg(kept_parameters) AS kept_parameters,
       avg(parameters) AS parameters,
       count(flag) AS flagged,
       count(*) FILTER (flag = 'diverged') AS diverged,
       count(*) FILTER (flag = 'collapsed') AS collapsed
FROM points_all
GROUP BY ALL
)
SELECT cells.* REPLACE (
    round(t975_of(q, n - 1) * ci, 9) AS ci,
    round(t975_of(q, delta_n - 1) * delta_ci, 9) AS delta_ci
)
FROM cells, (SELECT t975_list() AS q);

CREATE VIEW leaderboard AS
SELECT * EXCLUDE (version, current) FROM leaderboard_all WHERE current;

-- Whether the tasks' scores are better the higher (1) or the lower (-1): what a score is ordered by after it.
CREATE VIEW directions AS
SELECT task, CASE WHEN higher_is_better THEN 1 ELSE -1 END AS sign FROM tasks WHERE position = 0;

-- `lower`: the tasks whose score is better the lower, as a list; a join in its place takes 4 % of a ranking.
CREATE MACRO goodness_of(lower, task, score) AS CASE WHEN list_contains(lower, task) THEN -score ELSE score END;

-- A column is one sparsity of one table; its leader is the best mean among the cells that have all their seeds, or
-- among all cells while none has. Everything else is compared with the leader, paired by seed.
CREATE VIEW ranking_all AS
WITH ranked AS (
    SELECT l.*,
           rank() OVER (PARTITION BY plan, version, current, network, dataset, task, recipe, schedule, target_sparsity
                        ORDER BY goodness_of(d.lower, task, mean) DESC) AS rank,
           row_number() OVER (PARTITION BY plan, version, current, network, dataset, task, recipe, schedule, target_sparsity
                              ORDER BY n = planned DESC, goodness_of(d.lower, task, mean) DESC, cell) = 1 AS leads
    FROM leaderboard_all l, (SELECT coalesce(list(task) FILTER (sign < 0), []) AS lower FROM directions) d
    WHERE iteration > 0 AND n > 0
), gaps AS (
    SELECT r.plan, r.version, r.current, r.cell, r.iteration, round(avg(a.score - b.score), 9) AS gap,
           round(stddev_samp(a.score - b.score), 9) AS gap_std, count(*) AS pairs
    FROM ranked r
    JOIN ranked l ON l.leads AND NOT r.leads AND l.plan = r.plan AND l.version = r.version
         AND l.current = r.current AND l.network = r.network AND l.dataset = r.dataset AND l.task = r.task AND l.recipe = r.recipe AND l.schedule = r.schedule
         AND l.target_sparsity = r.target_sparsity
    JOIN points_all a ON a.plan = r.plan AND a.version = r.version AND a.current = r.current AND a.cell = r.cell
         AND a.iteration = r.iteration
    JOIN points_all b ON b.plan = l.plan AND b.version = l.version AND b.current = l.current AND b.cell = l.cell
         AND b.iteration = l.iteration AND b.seed = a.seed
    WHERE a.score IS NOT NULL AND b.score IS NOT NULL
    GROUP BY ALL
), intervals AS (
    SELECT g.*, round(t975_of(q, pairs - 1) * gap_std / sqrt(pairs), 9) AS gap_ci,
           n_needed_of(q, gap, gap_std) AS n_needed
    FROM gaps g, (SELECT t975_list() AS q)
)
SELECT r.plan, r.version, r.current, r.network, r.dataset, r.task, r.recipe, r.schedule, r.target_sparsity, r.rank,
       r.strategy, r.criterion, r.scope, r.granularity, r.retrain, r.cell, r.iteration, r.n, r.planned, r.mean, r.std, r.ci, r.delta,
       r.search_epochs, r.flagged,
       r.leads AND r.n = r.planned AS best,
       g.gap,
       g.gap_ci,
       coalesce(g.pairs, 0) AS pairs,
       NOT r.leads AND coalesce(abs(g.gap) <= g.gap_ci, true) AS tied,
       CASE WHEN abs(g.gap) <= g.gap_ci THEN g.n_needed END AS n_needed
FROM ranked r
LEFT JOIN intervals g USING (plan, version, current, cell, iteration);

CREATE VIEW ranking AS
SELECT * EXCLUDE (version, current) FROM ranking_all WHERE current;
