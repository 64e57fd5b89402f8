"""Owns the inventory of Ray Core's public names, by tier, for `tools/api_table.py`.

T1: in every tutorial; T2: expected by who uses Ray Core; T3: rare, or deprecated; OUT: not Ray Core.

A name is one of these forms:

    jray.get                         something to import or to read from a module
    jray.ObjectRef.hex               a member of a class
    jray.get(timeout)                a keyword of a function
    task(num_cpus)                   an option of remote functions; so actor(...) and method(...)
    runtime_env(env_vars)            a field of runtime environments
    $RAY_LOG_TO_DRIVER               a variable of the environment
    $ jray status                    a command
"""

from __future__ import annotations

from collections.abc import Iterator

#: section -> [(tier, what all names begin with, the names)]; "X(" in front stands for keywords of X
SECTIONS: dict[str, list[tuple[str, str, str]]] = {
    "Top level": [
        ("T1", "jray.", "init shutdown is_initialized remote method get put wait cancel kill get_actor"),
        ("T1", "jray.", "get_runtime_context nodes cluster_resources available_resources ObjectRef"),
        ("T2", "jray.", "get_gpu_ids timeline ObjectRefGenerator ObjectID DynamicObjectRefGenerator LoggingConfig"),
        ("T2", "jray.", "ActorID TaskID JobID NodeID WorkerID PlacementGroupID FunctionID ActorClassID UniqueID"),
        ("T2", "jray.", "ClusterID __version__ SCRIPT_MODE WORKER_MODE"),
        ("T3", "jray.", "client ClientBuilder __commit__ Language _config dag internal widgets autoscaler"),
        ("T1", "jray.", "actor exceptions util runtime_context runtime_env job_submission cluster_utils cloudpickle"),
        ("T1", "jray.actor.", "ActorClass ActorHandle ActorMethod ActorProxy exit_actor"),
        ("T1", "jray.actor.", "ActorClassInheritanceException"),
        ("T1", "jray.", "remote_function.RemoteFunction"),
        ("T2", "jray.", "job_config.JobConfig types.ObjectRef experimental"),
        ("T3", "jray._private.internal_api.", "free global_gc memory_summary"),
        ("OUT", "jray.", "cpp_function java_function java_actor_class cross_language"),
        ("OUT", "jray.", "data train tune serve rllib air llm workflow"),
        ("OUT", "jray.util.", "spark horovod lightgbm xgboost sgd tpu"),
    ],
    "Ids": [
        ("T2", f"jray.{kind}.", "hex binary is_nil nil from_hex from_binary size")
        for kind in (
            "ActorID", "TaskID", "JobID", "NodeID", "WorkerID", "PlacementGroupID", "FunctionID", "ActorClassID",
            "UniqueID", "ClusterID",
        )
    ] + [
        ("T2", "jray.ActorID.", "from_random job_id"),
        ("T2", "jray.TaskID.", "job_id actor_id"),
        ("T2", "jray.JobID.", "from_int int"),
        ("T2", "jray.NodeID.", "from_random"),
        ("T2", "jray.PlacementGroupID.", "from_random"),
    ],
    "jray.init and what it returns": [
        ("T1", "jray.init(", "address num_cpus num_gpus resources object_store_memory namespace runtime_env"),
        ("T1", "jray.init(", "ignore_reinit_error log_to_driver local_mode"),
        ("T2", "jray.init(", "labels logging_level logging_format configure_logging logging_config job_config"),
        ("T2", "jray.init(", "include_dashboard dashboard_host dashboard_port _temp_dir _system_config"),
        ("T2", "jray.init(", "object_spilling_directory allow_multiple storage"),
        ("T3", "jray.init(", "enable_resource_isolation cgroup_path system_reserved_cpu system_reserved_memory"),
        ("T3", "jray.init(", "proxy_server_url _memory _node_ip_address _plasma_directory _node_name"),
        ("T3", "jray.init(", "_driver_object_store_memory _enable_object_reconstruction _redis_username"),
        ("T3", "jray.init(", "_redis_password _metrics_export_port _tracing_startup_hook _skip_env_hook"),
        ("T1", "jray.session.RayContext.", "dashboard_url python_version ray_version ray_commit address_info"),
        ("T1", "jray.session.RayContext.", "disconnect __enter__ __getitem__"),
        ("T2", "jray.session.RayContext.", "_repr_html_"),
        ("T2", "jray.job_config.JobConfig(", "runtime_env metadata ray_namespace default_actor_lifetime"),
        ("T3", "jray.job_config.JobConfig(", "jvm_options code_search_path"),
        ("T2", "jray.job_config.JobConfig.", "set_metadata set_runtime_env set_ray_namespace from_json"),
        ("T2", "jray.job_config.JobConfig.", "set_default_actor_lifetime"),
        ("T2", "jray.LoggingConfig(", "encoding log_level additional_log_standard_attrs"),
        ("T2", "$", "RAY_ADDRESS RAY_ENABLE_AUTO_CONNECT"),
    ],
    "Tasks": [
        ("T1", "task(", "num_cpus num_gpus memory resources num_returns max_retries retry_exceptions runtime_env"),
        ("T1", "task(", "scheduling_strategy"),
        ("T2", "task(", "accelerator_type max_calls name _generator_backpressure_num_objects placement_group"),
        ("T2", "task(", "placement_group_bundle_index placement_group_capture_child_tasks label_selector"),
        ("T3", "task(", "fallback_strategy enable_task_events _labels _num_objects_per_yield object_store_memory"),
        ("T1", "jray.remote_function.RemoteFunction.", "remote options"),
        ("T2", "jray.remote_function.RemoteFunction.", "_function"),
        ("T3", "jray.remote_function.RemoteFunction.", "bind"),
        ("T1", "$", "RAY_TASK_MAX_RETRIES"),
        ("T2", "$", "RAY_IGNORE_UNHANDLED_ERRORS RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"),
    ],
    "Actors": [
        ("T1", "actor(", "num_cpus num_gpus memory resources runtime_env scheduling_strategy name namespace"),
        ("T1", "actor(", "lifetime get_if_exists max_restarts max_task_retries max_concurrency accelerator_type"),
        ("T2", "actor(", "concurrency_groups max_pending_calls allow_out_of_order_execution placement_group"),
        ("T2", "actor(", "placement_group_bundle_index placement_group_capture_child_tasks label_selector"),
        ("T3", "actor(", "_actor_generator_backpressure_num_objects enable_tensor_transport"),
        ("T1", "method(", "num_returns"),
        ("T2", "method(", "concurrency_group max_task_retries retry_exceptions name"),
        ("T2", "method(", "_generator_backpressure_num_objects enable_task_events"),
        ("T3", "method(", "tensor_transport"),
        ("T1", "jray.actor.ActorClass.", "remote options"),
        ("T3", "jray.actor.ActorClass.", "bind"),
        ("T1", "jray.actor.ActorMethod.", "remote options"),
        ("T3", "jray.actor.ActorMethod.", "bind"),
        ("T1", "jray.actor.ActorHandle.", "_actor_id _ray_actor_id"),
        ("T2", "jray.actor.ActorHandle.", "__ray_terminate__ __ray_ready__ __ray_call__"),
        ("T1", "jray.get_actor(", "name namespace"),
        ("T1", "jray.kill(", "no_restart"),
        ("T1", "jray.util.", "list_named_actors"),
        ("T1", "jray.util.list_named_actors(", "all_namespaces"),
    ],
    "Objects": [
        ("T1", "jray.get(", "timeout"),
        ("T1", "jray.wait(", "num_returns timeout fetch_local"),
        ("T1", "jray.cancel(", "force recursive"),
        ("T1", "jray.ObjectRef.", "hex binary is_nil nil from_binary from_random task_id job_id __await__ future"),
        ("T1", "jray.ObjectRef.", "as_future"),
        ("T2", "jray.ObjectRef.", "_on_completed owner_address call_site size from_hex __class_getitem__"),
        ("T2", "jray.ObjectRefGenerator.", "__iter__ __next__ __aiter__ __anext__ completed next_ready"),
        ("T2", "jray.ObjectRefGenerator.", "is_finished send throw close asend athrow aclose"),
        ("T2", "jray.experimental.locations.", "get_object_locations get_local_object_locations"),
        ("T2", "jray.experimental.", "get_object_locations"),
    ],
    "Placement groups and strategies": [
        ("T1", "jray.util.placement_group.", "placement_group PlacementGroup remove_placement_group"),
        ("T1", "jray.util.placement_group.", "placement_group_table get_placement_group get_current_placement_group"),
        ("T1", "jray.util.", "placement_group remove_placement_group placement_group_table get_placement_group"),
        ("T1", "jray.util.", "get_current_placement_group"),
        ("T1", "jray.util.placement_group.PlacementGroup.", "ready wait bundle_specs bundle_count id is_empty empty"),
        ("T1", "jray.util.scheduling_strategies.", "PlacementGroupSchedulingStrategy"),
        ("T2", "jray.util.scheduling_strategies.", "NodeAffinitySchedulingStrategy"),
        ("T3", "jray.util.scheduling_strategies.", "NodeLabelSchedulingStrategy In NotIn Exists DoesNotExist"),
    ],
    "jray.util": [
        ("T2", "jray.util.", "ActorPool as_completed map_unordered queue multiprocessing joblib metrics"),
        ("T2", "jray.util.ActorPool.", "map map_unordered submit has_next get_next get_next_unordered has_free"),
        ("T2", "jray.util.ActorPool.", "pop_idle push"),
        ("T2", "jray.util.queue.", "Queue Empty Full"),
        ("T2", "jray.util.queue.Queue.", "put get put_async get_async put_nowait get_nowait put_nowait_batch"),
        ("T2", "jray.util.queue.Queue.", "get_nowait_batch size qsize empty full shutdown"),
        ("T2", "jray.util.multiprocessing.", "Pool JoinableQueue"),
        ("T2", "jray.util.multiprocessing.Pool.", "apply apply_async map map_async starmap starmap_async imap"),
        ("T2", "jray.util.multiprocessing.Pool.", "imap_unordered close terminate join"),
        ("T2", "jray.util.multiprocessing.Pool(", "processes initializer initargs maxtasksperchild ray_address"),
        ("T2", "jray.util.multiprocessing.Pool(", "ray_remote_args"),
        ("T2", "jray.util.joblib.", "register_ray"),
        ("T2", "jray.util.metrics.", "Counter Gauge Histogram"),
        ("T2", "jray.util.metrics.Counter.", "inc set_default_tags info"),
        ("T2", "jray.util.metrics.Gauge.", "set set_default_tags info"),
        ("T2", "jray.util.metrics.Histogram.", "observe set_default_tags info"),
        ("T2", "jray.util.", "inspect_serializability register_serializer deregister_serializer serialization"),
        ("T2", "jray.util.", "get_node_ip_address log_once annotations"),
        ("T2", "jray.util.annotations.", "PublicAPI DeveloperAPI Deprecated RayDeprecationWarning"),
        ("T3", "jray.util.", "get_node_instance_id disable_log_once_globally enable_periodic_logging"),
        ("T3", "jray.util.", "pdb rpdb ray_debugpy collective dask tracing iter ActorGroup check_open_ports"),
        ("T3", "jray.util.", "accelerators connect disconnect client"),
        ("T2", "jray._private.services.", "get_node_ip_address"),
    ],
    "Who and where": [
        ("T1", "jray.runtime_context.RuntimeContext.", "get_job_id get_node_id get_task_id get_actor_id get_worker_id"),
        ("T1", "jray.runtime_context.RuntimeContext.", "namespace get_assigned_resources current_actor gcs_address"),
        ("T1", "jray.runtime_context.RuntimeContext.", "was_current_actor_reconstructed get_placement_group_id"),
        ("T1", "jray.runtime_context.RuntimeContext.", "should_capture_child_tasks_in_placement_group runtime_env"),
        ("T1", "jray.runtime_context.RuntimeContext.", "get_runtime_env_string"),
        ("T2", "jray.runtime_context.RuntimeContext.", "get_task_name get_task_function_name get_actor_name"),
        ("T2", "jray.runtime_context.RuntimeContext.", "get_accelerator_ids get_node_labels is_canceled get_temp_dir"),
        ("T2", "jray.runtime_context.RuntimeContext.", "get_session_name"),
        ("T3", "jray.runtime_context.RuntimeContext.", "get job_id node_id task_id actor_id get_resource_ids"),
        ("T3", "jray.runtime_context.RuntimeContext.", "current_placement_group_id worker"),
    ],
    "Runtime environments": [
        ("T1", "runtime_env(", "env_vars working_dir py_modules pip"),
        ("T2", "runtime_env(", "uv excludes worker_process_setup_hook config conda"),
        ("T3", "runtime_env(", "container image_uri py_executable nsight rocprof_sys java_jars"),
        ("T2", "jray.runtime_env.", "RuntimeEnv RuntimeEnvConfig"),
        ("T2", "jray.runtime_env.RuntimeEnv.", "to_dict get set serialize deserialize env_vars"),
        ("T2", "jray.runtime_env.RuntimeEnvConfig(", "setup_timeout_seconds eager_install log_files"),
    ],
    "Jobs and clusters": [
        ("T2", "jray.job_submission.", "JobSubmissionClient JobStatus JobInfo JobDetails JobType DriverInfo"),
        ("T2", "jray.job_submission.JobSubmissionClient.", "submit_job get_job_status get_job_info list_jobs"),
        ("T2", "jray.job_submission.JobSubmissionClient.", "get_job_logs tail_job_logs stop_job delete_job"),
        ("T2", "jray.cluster_utils.", "Cluster"),
        ("T2", "jray.cluster_utils.Cluster.", "add_node remove_node wait_for_nodes shutdown"),
    ],
    "State": [
        ("T1", "jray.util.", "state"),
        ("T1", "jray.util.state.", "summarize_tasks list_actors list_tasks"),
        ("T2", "jray.util.state.", "list_objects list_nodes list_workers list_jobs list_placement_groups"),
        ("T2", "jray.util.state.", "list_runtime_envs list_cluster_events get_actor get_task get_objects get_node"),
        ("T2", "jray.util.state.", "get_worker get_job get_placement_group summarize_actors summarize_objects"),
        ("T2", "jray.util.state.", "list_logs get_log"),
        ("T2", "jray.util.state.list_tasks(", "address filters limit timeout detail raise_on_missing_output"),
        ("T2", "jray.util.state.exception.", "RayStateApiException"),
    ],
    "Commands": [
        ("T1", "$ jray ", "summary list start stop status --version"),
        ("T2", "$ jray ", "get logs memory timeline job microbenchmark stack health-check"),
        ("T3", "$ jray ", "debug drain-node kill-actor metrics check-open-ports cluster-dump dashboard"),
    ],
    "Output and progress": [
        ("T1", "$", "RAY_LOG_TO_DRIVER"),
        ("T2", "$", "RAY_DEDUP_LOGS RAY_DEDUP_LOGS_AGG_WINDOW_S RAY_DEDUP_LOGS_ALLOW_REGEX RAY_DEDUP_LOGS_SKIP_REGEX"),
        ("T2", "$", "RAY_COLOR_PREFIX RAY_DISABLE_WORKER_LOG_PREFIX"),
        ("T2", "jray.experimental.tqdm_ray.", "tqdm"),
    ],
    "Graphs and channels": [
        ("T3", "jray.experimental.", "internal_kv channel collective shuffle dynamic_resources"),
    ],
    "Exceptions": [
        ("T1", "jray.exceptions.", "RayError RayTaskError TaskCancelledError WorkerCrashedError RayActorError"),
        ("T1", "jray.exceptions.", "ActorDiedError ActorUnavailableError GetTimeoutError ObjectLostError"),
        ("T1", "jray.exceptions.", "OwnerDiedError ObjectReconstructionFailedError ObjectStoreFullError OutOfDiskError"),
        ("T1", "jray.exceptions.", "OutOfMemoryError RuntimeEnvSetupError TaskPlacementGroupRemoved"),
        ("T1", "jray.exceptions.", "ActorPlacementGroupRemoved RaySystemError ActorAlreadyExistsError"),
        ("T1", "jray.exceptions.", "ActorHandleNotFoundError"),
        ("T2", "jray.exceptions.", "ObjectFreedError ObjectFetchTimedOutError ReferenceCountingAssertionError"),
        ("T2", "jray.exceptions.", "TaskUnschedulableError ActorUnschedulableError PendingCallsLimitExceeded"),
        ("T2", "jray.exceptions.", "NodeDiedError LocalRayletDiedError UnserializableException"),
        ("T3", "jray.exceptions.", "AsyncioActorExit PlasmaObjectNotAvailable ObjectRefStreamEndOfStreamError"),
        ("T3", "jray.exceptions.", "RpcError UserCodeException AuthenticationError CrossLanguageError"),
        ("T3", "jray.exceptions.", "OufOfBandObjectRefSerializationException RayChannelError RayChannelTimeoutError"),
        ("T3", "jray.exceptions.", "StreamingGeneratorReplayInconsistentError RayCgraphCapacityExceeded"),
        ("T3", "jray.exceptions.", "RayDirectTransportError"),
        ("T1", "jray.exceptions.RayError.", "to_bytes from_bytes"),
        ("T1", "jray.exceptions.RayTaskError.", "as_instanceof_cause"),
        ("T1", "jray.exceptions.RayTaskError(", "function_name traceback_str cause proctitle pid ip actor_repr"),
        ("T1", "jray.exceptions.RayActorError(", "actor_id error_msg actor_init_failed preempted"),
        ("T1", "jray.exceptions.TaskCancelledError(", "task_id error_message"),
        ("T1", "jray.exceptions.ObjectLostError(", "object_ref_hex owner_address call_site"),
    ],
}  # fmt: skip

#: what of T1 and T2 is still to come, by what brings it.  It shrinks; the test of the table knows how long it was.
PLANNED: dict[str, list[tuple[str, str]]] = {
    "runtime environments": [
        ("runtime_env(", "working_dir py_modules pip uv excludes worker_process_setup_hook conda"),
    ],
    "job submission": [
        ("jray.", "job_submission"),
        ("jray.job_submission.", "JobSubmissionClient JobStatus JobInfo JobDetails JobType DriverInfo"),
        ("jray.job_submission.JobSubmissionClient.", "submit_job get_job_status get_job_info list_jobs"),
        ("jray.job_submission.JobSubmissionClient.", "get_job_logs tail_job_logs stop_job delete_job"),
    ],
    "commands": [
        ("$ jray ", "summary list start stop status --version get logs memory timeline job microbenchmark stack"),
        ("$ jray ", "health-check"),
    ],
    "output of many workers": [
        ("$", "RAY_DEDUP_LOGS RAY_DEDUP_LOGS_AGG_WINDOW_S RAY_DEDUP_LOGS_ALLOW_REGEX RAY_DEDUP_LOGS_SKIP_REGEX"),
        ("$", "RAY_COLOR_PREFIX RAY_DISABLE_WORKER_LOG_PREFIX"),
    ],
}  # fmt: skip


def expand(first: str, names: str) -> Iterator[str]:
    """Yield each of *names* with *first* in front."""
    for name in names.split():
        yield f"{first}{name}{')' if first.endswith('(') else ''}"


def inventory() -> Iterator[tuple[str, str, str]]:
    """Yield (section, name, tier) of every name, in order."""
    for section, groups in SECTIONS.items():
        for tier, first, names in groups:
            for name in expand(first, names):
                yield section, name, tier


def planned() -> dict[str, str]:
    """Return the names that are still to come, and what brings them."""
    return {
        name: what
        for what, groups in PLANNED.items()
        for first, names in groups
        for name in expand(first, names)
    }
