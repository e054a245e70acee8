-- Step 6: senders take turns, operators choose routes, destinations are paused.

-- lane: who takes turns with others: the id of an account; below 0 a hash of the domain of the sender; 0 for bounces.
ALTER TABLE recipient ADD COLUMN lane {BIG} NOT NULL DEFAULT 0;
-- route: what an operator chose instead of the route of the settings.
ALTER TABLE recipient ADD COLUMN route TEXT NOT NULL DEFAULT '';

CREATE TABLE pause (
    destination TEXT PRIMARY KEY,           -- a domain, '*.domain' for all below it, or '*' for everything
    since {BIG} NOT NULL,
    until {BIG} NOT NULL,                   -- 0: until an operator ends it
    reason TEXT NOT NULL
);
