-- Who ran what where, with which code, and how much came out of it
SELECT r.run, r.started, r.host, r.devices, r.git_commit, r.git_dirty, r.prunectl, r.argv,
       (SELECT count(*) FROM stages s WHERE s.done AND s.started >= r.started) AS stages_done_since
FROM runs r
ORDER BY r.started DESC;
