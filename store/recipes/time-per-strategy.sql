-- Training time and length per strategy: what was measured, each stage counted once
-- :plan %
SELECT plan, network, dataset, strategy, count(*) AS stages, sum(seconds) / 3600 AS hours,
       median(seconds) AS median_seconds, sum(train_epochs) AS epochs
FROM (SELECT DISTINCT p.plan, p.network, p.dataset, p.strategy, p.stage, s.seconds, s.train_epochs
      FROM points p JOIN stages s USING (stage) WHERE s.done AND NOT p.selected)
WHERE plan LIKE $plan
GROUP BY plan, network, dataset, strategy
ORDER BY hours DESC;
