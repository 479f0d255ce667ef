-- What kind of device measures: a closed list, detectors/device_classes.py. Of devices from before nobody said it.

ALTER TABLE device ADD COLUMN class text NOT NULL DEFAULT 'unknown' CONSTRAINT device_class_check CHECK (class IN (
    'wrist_optical', 'ring_optical', 'chest_strap', 'patch_ecg', 'finger_oximeter', 'cuff', 'thermometer', 'scale', 'cgm',
    'glucose_meter', 'phone', 'unknown'));
