-- The tables of results.duckdb. Keys are primary keys and nothing else is indexed: DuckDB 1.4 to 1.5.6 returned
-- wrong results through secondary indexes after kill -9. `prunectl sql --schema` says what each column means.

CREATE TABLE store (schema_version INTEGER, prunectl VARCHAR, created TIMESTAMP);

CREATE TABLE ingested (
    source VARCHAR PRIMARY KEY, bytes BIGINT, next_seq BIGINT, lines BIGINT, digest VARCHAR, stamp VARCHAR, head VARCHAR,
    rate_step BIGINT, rate DOUBLE
);

-- What is no record: files as a whole (place 0, or -1) and lines of logs, by the byte that the line begins at.
CREATE TABLE left_out (source VARCHAR, place BIGINT, text VARCHAR, PRIMARY KEY (source, place));

CREATE TABLE plans (
    digest VARCHAR PRIMARY KEY, plan VARCHAR, file VARCHAR, question VARCHAR, axes VARCHAR[],
    overrides VARCHAR[], claims JSON, created TIMESTAMP, made TIMESTAMP, text VARCHAR
);

CREATE TABLE plan_trials (
    digest VARCHAR, trial VARCHAR, position INTEGER, PRIMARY KEY (digest, trial)
);

-- Which trials stand for which by their validation score: cell is one that is made so, and has no trials of its own.
CREATE TABLE plan_selections (
    digest VARCHAR, selection VARCHAR, over VARCHAR, cell VARCHAR, trial VARCHAR, position INTEGER,
    PRIMARY KEY (digest, cell, trial)
);

-- What each task measures beside the loss; position 0 is the score, which ranks and ties are computed on.
CREATE TABLE tasks (
    task VARCHAR, position INTEGER, metric VARCHAR, unit VARCHAR, higher_is_better BOOLEAN, digits INTEGER,
    per_item DOUBLE, guesses INTEGER, PRIMARY KEY (task, position)
);

CREATE TABLE trials (
    trial VARCHAR PRIMARY KEY, cell VARCHAR, plan VARCHAR, network VARCHAR, dataset VARCHAR, task VARCHAR,
    recipe VARCHAR, strategy VARCHAR, schedule VARCHAR, criterion VARCHAR, scope VARCHAR, granularity VARCHAR,
    retrain VARCHAR, seed BIGINT, order_seed BIGINT, augment_seed BIGINT, iterations INTEGER
);

CREATE TABLE paths (
    trial VARCHAR, iteration INTEGER, stage VARCHAR, target_sparsity DOUBLE, PRIMARY KEY (trial, iteration)
);

CREATE TABLE runs (
    run VARCHAR PRIMARY KEY, plans VARCHAR[], started TIMESTAMP, argv VARCHAR[], cwd VARCHAR,
    git_commit VARCHAR, git_dirty BOOLEAN, host VARCHAR, devices JSON, driver VARCHAR, packages JSON,
    python VARCHAR, platform VARCHAR, prunectl VARCHAR
);

CREATE TABLE stages (
    stage VARCHAR PRIMARY KEY,
    network VARCHAR, dataset VARCHAR, task VARCHAR, seed BIGINT, iteration INTEGER, replay BOOLEAN,
    parent VARCHAR, weights_stage VARCHAR, weights_step BIGINT, criterion VARCHAR, scope VARCHAR, granularity VARCHAR,
    density DOUBLE, steps BIGINT, spec JSON, epoch_steps DOUBLE,
    done BOOLEAN DEFAULT false, flag VARCHAR, kept BIGINT, prunable BIGINT, parameters BIGINT,
    kept_parameters BIGINT, macs BIGINT, macs_dense BIGINT, dead_layers VARCHAR[],
    score_pruned DOUBLE, score_start DOUBLE, score DOUBLE, best_score DOUBLE, validation_score DOUBLE,
    train_score DOUBLE, other_metrics JSON, agreement DOUBLE, ece DOUBLE,
    accuracy_pruned DOUBLE, accuracy_start DOUBLE, accuracy DOUBLE, top5 DOUBLE, loss DOUBLE,
    best_accuracy DOUBLE, validation_accuracy DOUBLE, train_accuracy DOUBLE, train_loss DOUBLE,
    test_items BIGINT, train_epochs DOUBLE, seconds DOUBLE, peak_memory BIGINT, device VARCHAR, device_name VARCHAR,
    device_names VARCHAR[], attempts INTEGER,
    versions JSON, started TIMESTAMP, ended TIMESTAMP, bytes BIGINT
);

-- One bit for each test item, in the order of the test set's labels: the first one is the leftmost bit.
CREATE TABLE correctness (stage VARCHAR PRIMARY KEY, test_set VARCHAR, correct BIT);

CREATE TABLE labels (test_set VARCHAR PRIMARY KEY, dataset VARCHAR, labels USMALLINT[]);

CREATE TABLE epochs (
    stage VARCHAR, epoch INTEGER, step BIGINT, lr DOUBLE, train_loss DOUBLE, train_accuracy DOUBLE,
    loss DOUBLE, accuracy DOUBLE, top5 DOUBLE, validation_loss DOUBLE, validation_accuracy DOUBLE,
    score DOUBLE, train_score DOUBLE, validation_score DOUBLE, other_metrics JSON,
    seconds DOUBLE, skipped BIGINT, attempt INTEGER, time TIMESTAMP, PRIMARY KEY (stage, epoch)
);

CREATE TABLE layers (
    stage VARCHAR, position INTEGER, layer VARCHAR, total BIGINT, kept BIGINT, PRIMARY KEY (stage, position)
);

CREATE TABLE rates (stage VARCHAR, first_step BIGINT, lr DOUBLE, PRIMARY KEY (stage, first_step));

CREATE TABLE events (
    log VARCHAR, seq BIGINT, attempt INTEGER, time TIMESTAMP, type VARCHAR, stage VARCHAR, data JSON,
    PRIMARY KEY (log, seq)
);

-- Outcomes in the bundle and on the machine that ran the stage again: NAME_there and NAME_here.
CREATE TABLE replications (
    replication VARCHAR PRIMARY KEY, bundle VARCHAR, digest VARCHAR, plan VARCHAR, stage VARCHAR, verdict VARCHAR,
    reason VARCHAR, score_there DOUBLE, score_here DOUBLE, loss_there DOUBLE, loss_here DOUBLE, metrics_there JSON,
    metrics_here JSON, flag_there VARCHAR, flag_here VARCHAR, weights_there VARCHAR, weights_here VARCHAR,
    device_name_there VARCHAR, device_name_here VARCHAR, versions_there JSON, versions_here JSON,
    tolerance DOUBLE, n INTEGER, from_parents BOOLEAN, host VARCHAR, device VARCHAR, time TIMESTAMP
);

CREATE TABLE published (
    source VARCHAR, figure VARCHAR, network VARCHAR, dataset VARCHAR, metric VARCHAR, structure VARCHAR,
    schedule VARCHAR, prune_step DOUBLE, method VARCHAR, sparsity DOUBLE, retrain_epochs DOUBLE, n INTEGER,
    median DOUBLE, mean DOUBLE, validation DOUBLE, low DOUBLE, high DOUBLE, band VARCHAR, dense DOUBLE
);

CREATE TABLE t_quantiles (comparisons INTEGER, df DOUBLE, t DOUBLE, PRIMARY KEY (comparisons, df));
