"""Services by name: detached actors and namespaces, restarts, retries of calls, and what a task knows of itself."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN003, ANN201, ANN204, ANN205, ANN206
import os

import ray
from ray.exceptions import ActorDiedError, RayActorError


@ray.remote
class Store:
    def __init__(self, **initial):
        self.items = dict(initial)

    def set(self, key, value):
        self.items[key] = value
        return len(self.items)

    def get(self, key, default=None):
        return self.items.get(key, default)

    def keys(self):
        return sorted(self.items)

    @ray.method(num_returns=2)
    def pair(self, key):
        return key, self.items[key]

    def crash(self):
        os._exit(1)

    def leave(self):
        ray.actor.exit_actor()

    @staticmethod
    def static(x):
        return x + 1

    @classmethod
    def made(cls):
        return cls.__name__

    def __call__(self, x):
        return f"called with {x}"

    def restarted(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


class Base:
    kind = "base"

    def describe(self):
        return f"{type(self).__name__} of {self.kind}"


@ray.remote
class Derived(Base):
    kind = "derived"

    def describe(self):
        return super().describe() + "!"


@ray.remote
def from_task(key):
    store = ray.get_actor("store")
    ray.get(store.set.remote(key, "by a task"))
    return ray.get(store.keys.remote())


@ray.remote(name="known", runtime_env={"env_vars": {"COLOUR": "blue"}})
def about():
    context = ray.get_runtime_context()
    return {
        "task name": context.get_task_name(),
        "colour": os.environ.get("COLOUR"),
        "cpus": context.get_assigned_resources(),
        "actor": context.get_actor_id(),
        "namespace": context.namespace,
    }


ray.init(num_cpus=3, namespace="services")
store = Store.options(name="store", lifetime="detached").remote(a=1)
print("first", ray.get(store.set.remote("b", 2)))
again = Store.options(name="store", get_if_exists=True).remote()
print("again", again._actor_id == store._actor_id, again == store, ray.get(again.get.remote("b")))
print("task", ray.get(from_task.remote("c")))
print("pair", ray.get(store.pair.remote("a")))
print("default", ray.get(store.get.remote("z", default="none")))
print("static", ray.get(store.static.remote(1)), ray.get(store.__call__.remote(3)))
try:
    Store.options(name="store").remote()
except ValueError as error:
    print("taken", "store" in str(error))
other = Store.options(name="store", namespace="elsewhere").remote(x=0)
print("elsewhere", ray.get(ray.get_actor("store", namespace="elsewhere").keys.remote()))
print("names", sorted(ray.util.list_named_actors()), len(ray.util.list_named_actors(all_namespaces=True)))
try:
    ray.get_actor("nobody")
except ValueError as error:
    print("nobody", "nobody" in str(error))
del store, again
print("kept", ray.get(ray.get_actor("store").keys.remote()))

stubborn = Store.options(max_restarts=1, max_task_retries=0).remote()
print("set", ray.get(stubborn.set.remote("a", 1)))
try:
    ray.get(stubborn.crash.remote())
except RayActorError as error:
    print("crashed", type(error).__name__)
while True:
    try:
        print("after", ray.get(stubborn.keys.remote()), ray.get(stubborn.restarted.remote()))
        break
    except RayActorError:
        pass
for end in (stubborn.crash, stubborn.keys):
    try:
        ray.get(end.remote())
    except ActorDiedError as error:
        print("died", type(error).__name__)
    except RayActorError as error:
        print("gone", isinstance(error, RayActorError))
leaver = Store.remote()
try:
    ray.get(leaver.leave.remote())
except RayActorError as error:
    print("left", type(error).__name__)
print("derived", ray.get(Derived.remote().describe.remote()))
print("about", ray.get(about.remote()))
print("plain call", Store.__name__ if hasattr(Store, "__name__") else "no name")
try:
    Store()
except TypeError as error:
    print("TypeError", "remote" in str(error))
try:
    from_task("x")
except TypeError as error:
    print("TypeError", "remote" in str(error))
try:
    ray.get_actor("store").set.remote("only one")
except TypeError as error:
    print("TypeError", "value" in str(error))
ray.kill(ray.get_actor("store"))
ray.shutdown()
print("over", ray.is_initialized())
