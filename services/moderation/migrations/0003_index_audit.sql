-- The audit log is narrowed to a user, to who did it and to a time.
CREATE INDEX audit_by_user ON audit (user_id, audit_id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_by_actor ON audit (by_id, audit_id) WHERE by_id IS NOT NULL;
CREATE INDEX audit_by_time ON audit (at_ms);
