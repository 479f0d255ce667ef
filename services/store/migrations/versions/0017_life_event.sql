-- Medicines and what else happened to a patient are changes as others are; each is a subject of its own, and what is put
-- right or withdrawn is a further version of it.

ALTER TABLE patient_change DROP CONSTRAINT patient_change_kind_check;
ALTER TABLE patient_change ADD CONSTRAINT patient_change_kind_check
    CHECK (kind IN ('monitoring', 'new_normal', 'assignment', 'erase', 'profile', 'limits', 'life_event'));
