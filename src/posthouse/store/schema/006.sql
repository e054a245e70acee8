-- Step 6: senders take turns, operators choose routes, destinations are paused.

-- lane: who takes turns with others: the id of an account; below 0 a hash of the domain of the sender; 0 for bounces.
ALTER TABLE recipient ADD COLUMN lane {BIG} NOT NULL DEFAULT 0;
-- route: what an operator chose instead of the route of the settings.
ALTER TABLE recipient ADD COLUMN route TEXT NOT NULL DEFAULT '';

-- place: where the queue finds a due recipient. 0: in its lane; 1: by its time, which is to come; 2: aside, by its
-- destination, which takes none for now. Each row stands in one of these indexes, so that no search has to pass over
-- those that cannot go.
ALTER TABLE recipient ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
DROP INDEX recipient_due;
CREATE INDEX recipient_due ON recipient (lane, next_attempt, destination) WHERE state = 'due' AND place = 0;
CREATE INDEX recipient_later ON recipient (next_attempt) WHERE state = 'due' AND place = 1;
CREATE INDEX recipient_aside ON recipient (destination, lane, next_attempt) WHERE state = 'due' AND place = 2;
CREATE INDEX recipient_claimed ON recipient (claimed_until) WHERE state = 'claimed';

CREATE TABLE pause (
    destination TEXT PRIMARY KEY,           -- a domain, '*.domain' for all below it, or '*' for everything
    since {BIG} NOT NULL,
    until {BIG} NOT NULL,                   -- 0: until an operator ends it
    reason TEXT NOT NULL
);
