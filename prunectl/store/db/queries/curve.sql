-- The curves of a trial's stages, evaluation by evaluation (the beginning of its name will do)
-- :trial %
SELECT p.trial, p.iteration, p.target_sparsity, e.epoch, e.step, e.lr, e.train_loss, e.train_accuracy, e.loss,
       e.score, e.validation_score, e.accuracy, e.validation_accuracy, e.seconds
FROM paths p JOIN epochs e USING (stage)
WHERE p.trial LIKE $trial || '%'
ORDER BY p.trial, p.iteration, e.epoch;
