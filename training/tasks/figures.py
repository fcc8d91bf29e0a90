"""What history.csv says of the validation images."""

from keras_realmnet.tasks.task import Task
from training.tasks.kinds import kind_of

__all__ = ["VALIDATION_LOSS", "figure_column", "figure_columns"]

VALIDATION_LOSS = "val_loss"


def figure_column(task: Task, output: str, figure: str) -> str:
    """The column of a figure: "val_dice", where the task has several outputs "val_disc_dice"."""
    return f"val_{figure}" if len(task.trained) == 1 else f"val_{output}_{figure}"


def figure_columns(task: Task) -> dict[str, bool]:
    """{column: whether more is better} of all figures."""
    return {
        figure_column(task, name, figure): more
        for name, output in task.trained.items()
        for figure, more in kind_of(output).figures.items()
    }
