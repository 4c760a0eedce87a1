"""What a recipe's task asks of the rest of the plan."""

from __future__ import annotations

from prunectl.ml.datasets.registry import Description
from prunectl.ml.tasks import registry as tasks
from prunectl.plan.load import LoadedPlan
from prunectl.plan.schema import Recipe


def check_task(plan: LoadedPlan, recipe: Recipe, dataset: str, info: Description) -> None:
    """Check that the task is known, uses all that the recipe sets, and that the data set `dataset` is for it.

    Raises PlanError with file and line.
    """
    with plan.naming("recipe.task"):
        task = tasks.find(recipe.task)
    for key in tasks.unused_settings(recipe.task):
        value = getattr(recipe, key)
        if value != Recipe.model_fields[key].default:
            raise plan.fail(f"{recipe.task} does not use it", f"recipe.{key}", found=str(value))
    place = f"datasets.{dataset}" if dataset in plan.content.datasets else "grid.dataset"
    if info.task != recipe.task:
        raise plan.fail(
            f"the recipe's task is {recipe.task}, {dataset} is data for {info.task}",
            "recipe.task" if plan.has("recipe.task") else place,
            found=recipe.task,
            allowed=(info.task,),
            suggestion="",
        )
    if info.classes < task.fewest_outputs:
        raise plan.fail(
            f"a network for {recipe.task} has at least {task.fewest_outputs} outputs",
            place,
            found=str(info.classes),
        )
