"""Resources: custom ones, placement groups and strategies, what a node has, and options of all kinds."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204
import ray
from ray.util.placement_group import (
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)


@ray.remote(num_cpus=1)
def where():
    group = ray.util.get_current_placement_group()
    return None if group is None else group.id.hex()


@ray.remote(num_cpus=1)
class Member:
    def __init__(self, rank):
        self.rank = rank

    def group(self):
        return ray.util.get_current_placement_group().id.hex()

    def total(self, members):
        me = ray.get_runtime_context().current_actor
        return self.rank + sum(ray.get([other.own.remote() for other in members if other != me]))

    def own(self):
        return self.rank


@ray.remote(resources={"disk": 1})
def on_disk(i):
    return i


ray.init(num_cpus=4, resources={"disk": 2, "licence": 1}, num_gpus=0)
print("has", {name: ray.cluster_resources()[name] for name in ("CPU", "disk", "licence")})
print("disk", ray.get([on_disk.remote(i) for i in range(5)]))
print("part", ray.get(on_disk.options(resources={"licence": 0.5}, num_cpus=0).remote("p")))
group = placement_group([{"CPU": 1}, {"CPU": 1, "disk": 1}], strategy="PACK", name="mine")
print("ready", ray.get(group.ready()) == group, group.bundle_count, group.bundle_specs)
print("wait", group.wait(10))
strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
print("inside", ray.get(where.options(scheduling_strategy=strategy).remote()) == group.id.hex())
print("outside", ray.get(where.remote()))
members = [
    Member.options(
        scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i)
    ).remote(i)
    for i in range(2)
]
print("member", ray.get(members[1].group.remote()) == group.id.hex())
print("total", ray.get(members[0].total.remote(members)))
print("free", ray.available_resources().get("CPU"))
table = placement_group_table(group)
print("table", table["state"], table["strategy"], table["name"], table["bundles"])
try:
    ray.get(where.options(num_cpus=3, scheduling_strategy=strategy).remote())
except ValueError as error:
    print("too large", "cannot fit" in str(error))
never = placement_group([{"CPU": 100}])
print("never", never.wait(0.1), placement_group_table(never)["state"])
remove_placement_group(never)
for member in members:
    ray.kill(member)
remove_placement_group(group)
print("removed", placement_group_table(group)["state"])
node = ray.get_runtime_context().get_node_id()
affine = where.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False))
print("affine", ray.get(affine.remote()), ray.get(where.options(scheduling_strategy="SPREAD").remote()))
row = ray.nodes()[0]
print("node", row["Alive"], row["Resources"]["CPU"], row["NodeID"] == node)
print("memory", ray.get(where.options(memory=100 * 1024 * 1024).remote()))
ray.shutdown()
