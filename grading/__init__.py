"""What looks at submissions, for ``check_submission.py``: the checks, and models saved by students' own classes.

Nothing of a submission is run here, and nothing here is used in training.
"""
