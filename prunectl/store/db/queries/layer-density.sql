-- Where the weights that are left stand: density of each layer, averaged over seeds
-- :plan %
SELECT p.plan, p.network, p.strategy, p.schedule, p.target_sparsity, l.position, l.layer, any_value(l.total) AS total,
       avg(l.kept) AS kept, avg(l.kept / l.total) AS density, count(*) AS n
FROM points p JOIN layers l USING (stage)
WHERE p.done AND p.plan LIKE $plan
GROUP BY p.plan, p.network, p.strategy, p.schedule, p.target_sparsity, p.cell, l.position, l.layer
ORDER BY p.plan, p.network, p.strategy, p.schedule, p.target_sparsity, l.position;
