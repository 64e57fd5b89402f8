"""A tree of actors: each node asks its children and adds its own leaf; handles are passed down and up."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204

import ray


@ray.remote(num_cpus=0)
class Registry:
    def __init__(self):
        self.names = []

    def enter(self, name):
        self.names.append(name)

    def listed(self):
        return sorted(self.names)


@ray.remote(num_cpus=0)
class Node:
    def __init__(self, name, depth, registry):
        self.name = name
        self.children = (
            [Node.remote(f"{name}.{index}", depth - 1, registry) for index in range(2)] if depth else []
        )
        ray.get(registry.enter.remote(name))

    def total(self):
        return len(self.name) + sum(ray.get([child.total.remote() for child in self.children]))

    def leaves(self):
        if not self.children:
            return [self.name]
        return [name for child in self.children for name in ray.get(child.leaves.remote())]

    def child(self, index):
        return self.children[index]


ray.init(num_cpus=2)
registry = Registry.options(name="registry").remote()
root = Node.remote("r", 2, registry)
print("total", ray.get(root.total.remote()))
print("leaves", ray.get(root.leaves.remote()))
inner = ray.get(root.child.remote(1))
print("inner", isinstance(inner, ray.actor.ActorHandle), ray.get(inner.leaves.remote()))
print("registered", ray.get(ray.get_actor("registry").listed.remote()))
ray.kill(inner)
while True:  # it returns before the actor is gone
    try:
        ray.get(inner.total.remote())
    except ray.exceptions.RayActorError:
        break
try:
    ray.get(root.total.remote())
except ray.exceptions.RayTaskError as error:
    print("lost", isinstance(error.cause, ray.exceptions.RayActorError))
ray.shutdown()
