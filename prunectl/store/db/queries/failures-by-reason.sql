-- Failed attempts by reason, with the last message, and how many of their stages are done by now
SELECT data->>'reason' AS reason, count(*) AS failures, count(DISTINCT e.stage) AS stages,
       count(DISTINCT e.stage) FILTER (s.done) AS done_since, max(e.time) AS last,
       arg_max(data->>'message', e.time) AS last_message
FROM events e LEFT JOIN stages s USING (stage)
WHERE e.type = 'stage_failed'
GROUP BY reason
ORDER BY failures DESC, reason;
