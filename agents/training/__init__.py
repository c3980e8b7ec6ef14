"""The loop: trainer, learner, checkpoints, evaluation, alarms, and the check of a teacher."""
