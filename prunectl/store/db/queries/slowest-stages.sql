-- The stages that took longest, with their time per step
-- :count 20
SELECT stage, network, dataset, seed, iteration, round(1 - density, 6) AS sparsity, steps, seconds,
       1000 * seconds / steps AS ms_per_step, attempts, device, device_name, ended
FROM stages
WHERE done
ORDER BY seconds DESC
LIMIT CAST($count AS BIGINT);
