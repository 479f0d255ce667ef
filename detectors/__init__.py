"""Detectors: what is unusual for this person, from arrays in to findings out.

The package is pure: numpy and scipy only, no clock, no files, no network. ``limits`` are the safety limits,
which never adapt and look at every reading on arrival. ``pipeline`` is the adaptive path over settled
minutes: ``gate`` drops what can't be true, ``context`` says asleep, at rest or active, ``baseline`` keeps
what is usual for this person, ``score`` says how unusual a value is, ``daily``, ``rise`` and ``persist`` turn that
into findings, ``datastate`` says what is known at all. ``explain`` puts a finding into one plain sentence.
``scores`` works out published clinical scores, which never adapt and raise nothing.
``slices`` makes its input of single readings, ``protocol`` says what every detector keeps to, and ``registry`` finds
those that are installed, of other packages too (docs/detectors.md).
"""
