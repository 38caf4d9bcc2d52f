-- The journal as its lines say it, and the tables for people, which are made from it and from nothing else.
-- Times are UTC. Every table below the journal can be made anew by replaying it.

CREATE TABLE IF NOT EXISTS meta (
    schema_version INTEGER NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL
);

CREATE TABLE IF NOT EXISTS journal (
    seq           BIGINT PRIMARY KEY,     -- from 1, without gaps
    recorded_at   TIMESTAMPTZ NOT NULL,   -- never earlier than the entry before
    kind          VARCHAR NOT NULL,
    tournament_id VARCHAR,                -- NULL for money that arrives for an account
    body          VARCHAR NOT NULL,       -- the fact as JSON; the hash covers these very characters
    previous      VARCHAR NOT NULL,       -- hash of the entry before
    hash          VARCHAR NOT NULL        -- SHA-256 over seq, time, kind, body, previous
);

CREATE TABLE IF NOT EXISTS tournaments (
    tournament_id          VARCHAR PRIMARY KEY,
    type                   VARCHAR,
    status                 VARCHAR,       -- pending, active, completed, cancelled
    champion               VARCHAR,       -- hotkey of the champion that is challenged; NULL without one
    champion_wins          INTEGER,
    passes                 INTEGER,       -- how often the miners were asked
    entrants               INTEGER,       -- accepted, the champion not counted
    created_at             TIMESTAMPTZ,
    activated_at           TIMESTAMPTZ,
    completed_at           TIMESTAMPTZ,
    cancelled_at           TIMESTAMPTZ,
    winner                 VARCHAR,
    title                  VARCHAR,       -- won, defended, uncontested, vacant
    performance_difference DOUBLE,
    history_difference     DOUBLE,        -- NULL without tasks from the history
    because                VARCHAR,       -- of its creation, then of its end
    draw_commitment        VARCHAR,
    secret_commitment      VARCHAR,
    draw_seed              VARCHAR,       -- NULL until it is revealed
    secret_seed            VARCHAR,       -- NULL until it is revealed
    beacon                 VARCHAR,
    seed                   VARCHAR,       -- of the draws
    rules                  VARCHAR        -- JSON
);

CREATE TABLE IF NOT EXISTS entrants (
    tournament_id VARCHAR,
    hotkey        VARCHAR,
    status        VARCHAR,                -- champion, accepted, refused
    coldkey       VARCHAR,
    repo          VARCHAR,
    "commit"      VARCHAR,
    tree_hash     VARCHAR,
    pass          INTEGER,                -- number of the pass that accepted or refused it; NULL for the champion
    registered    INTEGER,                -- place in the registration order, from 0; NULL until activation
    because       VARCHAR,
    PRIMARY KEY (tournament_id, hotkey)
);

CREATE TABLE IF NOT EXISTS rounds (
    round_id      VARCHAR PRIMARY KEY,
    tournament_id VARCHAR,
    number        INTEGER,                -- from 1
    type          VARCHAR,                -- group, knockout, boss
    status        VARCHAR,                -- pending, active, completed
    byes          VARCHAR[],
    advancing     VARCHAR[],              -- best placed first
    drawn_at      TIMESTAMPTZ,
    activated_at  TIMESTAMPTZ,
    completed_at  TIMESTAMPTZ,
    because       VARCHAR                 -- of its draw, then of its end
);

CREATE TABLE IF NOT EXISTS matches (
    match_id      VARCHAR PRIMARY KEY,
    tournament_id VARCHAR,
    round_id      VARCHAR,
    entrants      VARCHAR[],
    advancing     VARCHAR[],              -- NULL until it is decided
    decided_at    TIMESTAMPTZ,
    because       VARCHAR
);

CREATE TABLE IF NOT EXISTS tasks (
    task_id         VARCHAR PRIMARY KEY,
    tournament_id   VARCHAR,
    match_id        VARCHAR,
    slot            INTEGER,              -- from 0
    type            VARCHAR,
    status          VARCHAR,              -- training, evaluating, success, failure; NULL until its round is active
    hours           DOUBLE,
    gpu_requirement VARCHAR,
    model_id        VARCHAR,
    model_params    BIGINT,
    dataset_rows    BIGINT,
    test_rows       BIGINT,
    evaluation      INTEGER,              -- which evaluation is under way or was the last
    run             INTEGER,              -- which run of the whole task, 2 after a repetition
    historical      VARCHAR,              -- the past task whose data it repeats
    best_historical DOUBLE,
    prepared_at     TIMESTAMPTZ,          -- NULL when it could not be prepared
    decided_at      TIMESTAMPTZ,
    winner          VARCHAR,
    because         VARCHAR
);

-- Of entrants and champions: the latest image of each.
CREATE TABLE IF NOT EXISTS images (
    tournament_id     VARCHAR,
    hotkey            VARCHAR,
    tree_hash         VARCHAR,
    image_id          VARCHAR,            -- sha256:…, as the container engine names it
    node              VARCHAR,            -- where it was built or found
    dockerfile_sha256 VARCHAR,
    base_images       VARCHAR[],          -- ids of the images that its dockerfile starts FROM
    seconds           DOUBLE,
    built_at          TIMESTAMPTZ,
    because           VARCHAR,
    PRIMARY KEY (tournament_id, hotkey)
);

CREATE TABLE IF NOT EXISTS attempts (
    attempt_id          VARCHAR PRIMARY KEY,
    tournament_id       VARCHAR,
    task_id             VARCHAR,
    hotkey              VARCHAR,
    epoch               INTEGER,          -- number of the attempt, from 1
    status              VARCHAR,          -- training, success, failure
    blame               VARCHAR,          -- of a failure: miner, platform, evaluator
    kind                VARCHAR,
    reason              VARCHAR,
    node                VARCHAR,
    gpu_type            VARCHAR,
    gpus                INTEGER,
    gpu_indices         INTEGER[],        -- empty where GPUs are only counted
    hours               DOUBLE,
    mem_limit           VARCHAR,
    nano_cpus           BIGINT,
    dataset_sha256      VARCHAR,
    tree_hash           VARCHAR,
    image_id            VARCHAR,
    started_at          TIMESTAMPTZ,      -- it is on record
    leased_at           TIMESTAMPTZ,      -- the GPUs are leased; NULL when its image could not be built
    running_at          TIMESTAMPTZ,      -- the trainer's code runs
    ended_at            TIMESTAMPTZ,      -- its outcome is known
    lease_ended_at      TIMESTAMPTZ,      -- nothing of it runs any more, the GPUs are free
    lease_end           VARCHAR,          -- how that is known
    seconds             DOUBLE,
    stopped_at_deadline BOOLEAN,
    checkpoint          VARCHAR,
    log_tail            VARCHAR,
    provenance          VARCHAR           -- digest of the record of where its output comes from; empty without one
);

CREATE TABLE IF NOT EXISTS evaluations (
    task_id       VARCHAR,
    hotkey        VARCHAR,
    number        INTEGER,                -- which evaluation of the task, from 1
    tournament_id VARCHAR,
    value         DOUBLE,                 -- NULL while the evaluator has failed only
    per_row       DOUBLE[],               -- shape (rows,): what the value is the mean of
    fine_tuned    BOOLEAN,
    distance      DOUBLE,
    digest        VARCHAR,
    refused       VARCHAR,                -- why it was not evaluated; empty when it was
    seconds       DOUBLE,
    environment   VARCHAR,                -- JSON
    evaluated_at  TIMESTAMPTZ,
    failures      INTEGER,                -- of the evaluator, at this training so far
    failure       VARCHAR,                -- reason of the last of them
    PRIMARY KEY (task_id, hotkey, number)
);

CREATE TABLE IF NOT EXISTS rankings (
    task_id       VARCHAR,
    hotkey        VARCHAR,
    tournament_id VARCHAR,
    value         DOUBLE,
    valid         BOOLEAN,
    score         INTEGER,                -- 3, 0 or -1
    place         INTEGER,                -- from 1; NULL for the invalid
    because       VARCHAR,
    PRIMARY KEY (task_id, hotkey)
);

CREATE TABLE IF NOT EXISTS verdicts (
    match_id      VARCHAR,
    hotkey        VARCHAR,
    tournament_id VARCHAR,
    advances      BOOLEAN,
    value         DOUBLE,
    because       VARCHAR,
    decided_at    TIMESTAMPTZ,
    PRIMARY KEY (match_id, hotkey)
);

CREATE TABLE IF NOT EXISTS standings (
    tournament_id VARCHAR,
    hotkey        VARCHAR,
    place         INTEGER,
    points        DOUBLE,
    weight        DOUBLE,
    PRIMARY KEY (tournament_id, hotkey)
);

CREATE TABLE IF NOT EXISTS charges (
    tournament_id VARCHAR,
    hotkey        VARCHAR,
    coldkey       VARCHAR,
    rao           BIGINT,
    charged_at    TIMESTAMPTZ,
    refunded_at   TIMESTAMPTZ,            -- NULL unless it went back
    refund        VARCHAR,                -- why it went back
    PRIMARY KEY (tournament_id, hotkey)
);

CREATE TABLE IF NOT EXISTS transfers (
    transfer_id VARCHAR PRIMARY KEY,
    coldkey     VARCHAR,
    rao         BIGINT,
    credited_at TIMESTAMPTZ
);

CREATE TABLE IF NOT EXISTS nodes (
    node      VARCHAR PRIMARY KEY,
    status    VARCHAR,                    -- there, lost, fenced
    gpus      VARCHAR,                    -- JSON: how many of each type
    joined_at TIMESTAMPTZ,
    lost_at   TIMESTAMPTZ,                -- the last time, though it may be there again
    because   VARCHAR                     -- of its last fencing
);

-- What people did, beyond the rules.
CREATE TABLE IF NOT EXISTS acts (
    kind     VARCHAR,
    subject  VARCHAR,                     -- a tournament, a training as task.hotkey, or a node
    acted_at TIMESTAMPTZ,
    "by"     VARCHAR,
    because  VARCHAR,
    PRIMARY KEY (kind, subject, acted_at)
);

CREATE TABLE IF NOT EXISTS balances (
    coldkey VARCHAR PRIMARY KEY,
    rao     BIGINT
);

CREATE VIEW IF NOT EXISTS points AS SELECT tournament_id, hotkey, points FROM standings WHERE points > 0;

CREATE VIEW IF NOT EXISTS weights AS SELECT tournament_id, hotkey, weight FROM standings;

-- Who holds which GPUs now.
CREATE VIEW IF NOT EXISTS leases AS
    SELECT node, gpu_type, gpus, attempt_id, epoch, tournament_id, task_id, hotkey, started_at
    FROM attempts WHERE leased_at IS NOT NULL AND lease_ended_at IS NULL;
