"""The rules: which event may happen in which phase, what it changes, and what it may not claim."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core.events import (
    CheckMade,
    DeadlinePassed,
    FileCopied,
    MachineBusy,
    MachineFree,
    MountFound,
    MountKept,
    MountLeft,
    MountReleased,
    NothingReadable,
    OrphanEnded,
    OutOfReach,
    PointChosen,
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    SystemFound,
    TargetConcluded,
    TargetEvent,
    TargetReopened,
    TaskAccepted,
    TaskFailed,
    TaskObserved,
    TaskStopAsked,
    TaskStopSeen,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.core.lifecycle.record import Phase

TRANSITIONS: Mapping[Phase, Mapping[type[TargetEvent], Phase]] = {
    Phase.QUEUED: {
        SubmissionStarted: Phase.SUBMITTING,
        PointChosen: Phase.QUEUED,
        MachineBusy: Phase.BUSY,
        TargetConcluded: Phase.DONE,
    },
    Phase.BUSY: {
        MachineFree: Phase.QUEUED,
        TargetConcluded: Phase.DONE,
    },
    Phase.SUBMITTING: {
        TaskAccepted: Phase.RUNNING,
        SubmissionNotSent: Phase.QUEUED,
        SubmissionRefused: Phase.QUEUED,
        SubmissionInDoubt: Phase.IN_DOUBT,
    },
    Phase.IN_DOUBT: {
        TaskAccepted: Phase.RUNNING,  # found on the server: adopted
        SubmissionRefused: Phase.QUEUED,  # proved absent
        MountFound: Phase.VERIFYING,  # the point's mounts list shows it
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.RUNNING: {
        TaskObserved: Phase.RUNNING,
        DeadlinePassed: Phase.RUNNING,
        TaskStopAsked: Phase.RUNNING,
        TaskStopSeen: Phase.RUNNING,
        TaskSucceeded: Phase.COLLECTING,
        TaskFailed: Phase.QUEUED,
        MountFound: Phase.VERIFYING,  # the task vanished, its mount did not
        SubmissionInDoubt: Phase.IN_DOUBT,  # the adopted task was another request's
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.COLLECTING: {
        MountFound: Phase.VERIFYING,
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.VERIFYING: {
        DeadlinePassed: Phase.VERIFYING,
        NothingReadable: Phase.VERIFYING,
        SystemFound: Phase.VERIFYING,
        CheckMade: Phase.VERIFYING,
        FileCopied: Phase.VERIFYING,
        VerdictReached: Phase.VERIFYING,
        MountKept: Phase.HELD,  # the plan asks for it
        UnmountStarted: Phase.UNMOUNTING,
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.HELD: {
        UnmountStarted: Phase.UNMOUNTING,
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.UNMOUNTING: {
        UnmountStarted: Phase.UNMOUNTING,
        MountReleased: Phase.QUEUED,
        MountLeft: Phase.OUT_OF_REACH,
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.OUT_OF_REACH: {
        UnmountStarted: Phase.OUT_OF_REACH,
        MountReleased: Phase.OUT_OF_REACH,
        OrphanEnded: Phase.QUEUED,
        TargetConcluded: Phase.DONE,
    },
    Phase.DONE: {
        MountReleased: Phase.DONE,  # by the `unmount` command, or a resumed run
        MountLeft: Phase.DONE,  # by a lost request that was carried out late
        OutOfReach: Phase.DONE,  # perhaps so
        TargetReopened: Phase.QUEUED,  # by a resumed run
    },
}

HOLDING_PHASES = frozenset(
    {
        Phase.SUBMITTING,
        Phase.IN_DOUBT,
        Phase.RUNNING,
        Phase.COLLECTING,
        Phase.VERIFYING,
        Phase.HELD,
        Phase.UNMOUNTING,
    }
)
"""Phases in which a mount may exist on the server, so the slot is held."""
