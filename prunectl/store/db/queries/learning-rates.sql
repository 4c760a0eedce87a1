-- The exact learning rates of a stage (or of all whose key begins so), as runs of (first step, rate)
-- :stage %
SELECT stage, first_step,
       coalesce(lead(first_step) OVER (PARTITION BY stage ORDER BY first_step), s.steps) - 1 AS last_step, lr
FROM schedules JOIN stages s USING (stage)
WHERE stage LIKE $stage || '%'
ORDER BY stage, first_step;
