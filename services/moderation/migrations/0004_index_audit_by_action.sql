-- The audit log is narrowed to a kind of action: one that is rare is found without reading all others.
CREATE INDEX audit_by_action ON audit (action, audit_id);
