-- What sharing saves: stages and training time with each trial's stages counted on their own, and in fact
SELECT plan, count(*) AS stages_without_sharing, count(DISTINCT stage) AS stages,
       sum(steps) AS steps_without_sharing, sum(steps) FILTER (first) AS steps,
       sum(seconds) / 3600 AS hours_without_sharing, sum(seconds) FILTER (first) / 3600 AS hours,
       1 - sum(steps) FILTER (first) / sum(steps) AS steps_saved
FROM (
    SELECT c.plan, p.stage, s.steps, s.seconds,
           row_number() OVER (PARTITION BY c.plan, p.stage ORDER BY p.trial, p.iteration) = 1 AS first
    FROM current_plans c
    JOIN plan_trials m USING (digest)
    JOIN paths p USING (trial)
    JOIN stages s USING (stage)
)
GROUP BY plan
ORDER BY plan;
