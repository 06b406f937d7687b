"""Errors a user can cause. Each message says what is wrong and what to do."""


class CompressionError(ValueError):
    """Base of every error that a configuration or an input file can cause."""


class TraceError(CompressionError):
    """The model cannot be traced, or nothing in it can be pruned."""


class PolicyError(CompressionError):
    """A policy does not fit the model or the search space."""


class TargetError(CompressionError):
    """A target is malformed or cannot be reached by any policy."""


class StudyError(CompressionError):
    """A stored study does not belong to this search."""


class DataError(CompressionError):
    """Images needed for scoring or calibration are missing or too few."""


class ExportError(CompressionError):
    """A model cannot be exported, or a file cannot be run or is not what it says."""


class PredictorError(CompressionError):
    """Labels or a file that a predictor cannot work with."""


class CheckpointError(CompressionError):
    """A checkpoint needs code to be run, which nobody has allowed."""
