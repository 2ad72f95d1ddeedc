"""PostgreSQL on RDS, with separate databases and owners for Airflow, MLflow and the feature store."""

from collections.abc import Sequence
from dataclasses import replace

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from infra import feature_store
from infra.airflow_names import DATABASE_USERS
from infra.airflow_platform import MAINTENANCE_DATABASE, DatabaseAccess
from infra.aws import certificates
from infra.aws.account import Account
from infra.aws.cluster import Cluster
from infra.aws.names import POSTGRES_CLIENT_IMAGE, SETUP_NAMESPACE, Limit
from infra.aws.network import Network
from infra.aws.node_pools import NodePools
from infra.aws.policies import this_account, trust
from infra.database_setup import FEATURES, NO_OPTIONS, DatabaseOptions, DatabaseSetup
from infra.settings import DatabaseSettings

# The major version; RDS installs minor versions in the maintenance window.
ENGINE_VERSION = "17"
PORT = 5432
# Not "admin", which RDS reserves.
ADMIN = "dbadmin"
PASSWORD_LENGTH = 32

# The recovery window of deleted passwords: https://docs.aws.amazon.com/secretsmanager/latest/userguide/manage_delete-secret.html
SECRET_RECOVERY_DAYS = 30

# The free retention: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PerfInsights.Overview.cost.html
PERFORMANCE_INSIGHTS_DAYS = 7
WAITING_CHANGES = (
    "changes of the class and the storage take effect in the next maintenance window; to apply them during the "
    "deployment, set apply_changes: immediately in airflow:database"
)

# PostgreSQL's logs in CloudWatch: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_LogAccess.Concepts.PostgreSQL.html
LOGS = ("postgresql", "upgrade")
LOG_DAYS = 90

# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Monitoring.OS.Enabling.html
MONITORING_SECONDS = 60
MONITORING_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"


class Database(pulumi.ComponentResource):
    """The server, and access to its databases.

    Attributes:
        identifier: The identifier of the server.
        admin: The administrator's access to the server.
        airflow: The database of Airflow's metadata.
        mlflow: The database of MLflow's runs and registry.
        features: The database of the feature store.
        secret_arns: The Secrets Manager secrets of the administrator and of each database's owner.
    """

    identifier: pulumi.Output[str]
    admin: DatabaseAccess
    airflow: DatabaseAccess
    mlflow: DatabaseAccess
    features: DatabaseAccess
    secret_arns: dict[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        settings: DatabaseSettings,
        account: Account,
        network: Network,
        cluster: Cluster,
        node_pools: NodePools,
        key_arn: pulumi.Input[str],
        log_key_arn: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the server, reachable only from the cluster; `key_arn` encrypts it, and `log_key_arn` its logs."""
        super().__init__("airflow:aws:Database", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._settings = settings
        self._account = account
        self._key_arn = key_arn
        self.secret_arns = {}

        group_id = self._create_security_group(network, cluster.security_group_id)
        admin_password = self._create_password("admin")
        self._instance = self._create_instance(network, group_id, admin_password, log_key_arn)
        self.identifier = self._instance.identifier
        if settings.apply_changes == "maintenance_window":
            pulumi.log.info(WAITING_CHANGES, resource=self._instance)
        self.admin = self._keep("admin", self._access(ADMIN, MAINTENANCE_DATABASE, admin_password))
        self._setup = self._create_setup(cluster, node_pools)
        self.airflow = self._create_database("airflow", DATABASE_USERS)
        self.mlflow = self._create_database("mlflow")
        self.features = self._create_database(feature_store.DATABASE, [feature_store.SERVERS], FEATURES)

        self.register_outputs({"host": self.airflow.host, "secret_arns": self.secret_arns})

    def _create_security_group(self, network: Network, cluster_group_id: pulumi.Input[str]) -> pulumi.Output[str]:
        name = self._account.names.of("database", Limit.SECURITY_GROUP)
        group = aws.ec2.SecurityGroup(
            "database-security-group",
            name=name,
            description="PostgreSQL, reachable from the cluster",
            vpc_id=network.vpc_id,
            tags={"Name": name},
            opts=self._child_opts,
        )
        aws.vpc.SecurityGroupIngressRule(
            "database-from-cluster",
            security_group_id=group.id,
            description="PostgreSQL from nodes and pods of the cluster",
            referenced_security_group_id=cluster_group_id,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            opts=self._child_opts,
        )
        return group.id

    def _create_password(self, purpose: str) -> pulumi.Output[str]:
        # Not a password managed by RDS, which rotates weekly and breaks stored connection strings. Without special
        # characters, because the password becomes part of a connection string.
        return random.RandomPassword(
            f"{purpose}-password", length=PASSWORD_LENGTH, special=False, opts=self._child_opts
        ).result

    def _create_log_groups(self, identifier: str, key_arn: pulumi.Input[str]) -> list[pulumi.Resource]:
        # Otherwise RDS creates them, with unlimited retention and without the key.
        return [
            aws.cloudwatch.LogGroup(
                f"database-{log}-log-group",
                name=f"/aws/rds/instance/{identifier}/{log}",
                retention_in_days=LOG_DAYS,
                kms_key_id=key_arn,
                opts=self._child_opts,
            )
            for log in LOGS
        ]

    def _create_monitoring_role(self) -> tuple[aws.iam.Role, pulumi.Resource]:
        role = aws.iam.Role(
            "database-monitoring-role",
            name=self._account.names.of("database-monitoring", Limit.ROLE),
            assume_role_policy=self._account.id.apply(
                lambda account: trust("monitoring.rds.amazonaws.com", conditions=this_account(account))
            ),
            permissions_boundary=self._account.permissions_boundary,
            opts=self._child_opts,
        )
        policy = aws.iam.RolePolicyAttachment(
            "database-monitoring-policy", role=role.name, policy_arn=MONITORING_POLICY, opts=self._child_opts
        )
        return role, policy

    def _create_instance(
        self,
        network: Network,
        group_id: pulumi.Input[str],
        password: pulumi.Output[str],
        log_key_arn: pulumi.Input[str],
    ) -> aws.rds.Instance:
        settings, names, protect = self._settings, self._account.names, self._account.protect
        subnets = aws.rds.SubnetGroup(
            "database-subnets",
            name=names.of("database", Limit.SUBNET_GROUP),
            subnet_ids=network.private_subnet_ids,
            opts=self._child_opts,
        )
        parameters = aws.rds.ParameterGroup(
            "database-parameters",
            # A group fits one major version, and an upgrade needs the old and the new one at the same time.
            name=names.of(f"database-postgres{ENGINE_VERSION}", Limit.SUBNET_GROUP),
            family=f"postgres{ENGINE_VERSION}",
            parameters=[aws.rds.ParameterGroupParameterArgs(name="rds.force_ssl", value="1")],
            opts=self._child_opts,
        )
        identifier = names.of("database", Limit.DATABASE)
        role, policy = self._create_monitoring_role()
        log_groups = self._create_log_groups(identifier, log_key_arn)
        return aws.rds.Instance(
            "database",
            identifier=identifier,
            engine="postgres",
            engine_version=ENGINE_VERSION,
            auto_minor_version_upgrade=True,
            allow_major_version_upgrade=True,
            instance_class=settings.instance_class,
            storage_type=aws.rds.StorageType.GP3,
            allocated_storage=settings.storage_gib,
            max_allocated_storage=settings.max_storage_gib,
            storage_encrypted=True,
            kms_key_id=self._key_arn,
            username=ADMIN,
            password=password,
            port=PORT,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[group_id],
            publicly_accessible=False,
            parameter_group_name=parameters.name,
            multi_az=settings.multi_az,
            apply_immediately=settings.apply_changes == "immediately",
            backup_retention_period=settings.backup_days,
            copy_tags_to_snapshot=True,
            deletion_protection=protect,
            skip_final_snapshot=not protect,
            final_snapshot_identifier=self._final_snapshot(identifier) if protect else None,
            delete_automated_backups=not protect,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=self._key_arn,
            performance_insights_retention_period=PERFORMANCE_INSIGHTS_DAYS,
            enabled_cloudwatch_logs_exports=LOGS,
            monitoring_interval=MONITORING_SECONDS,
            monitoring_role_arn=role.arn,
            opts=pulumi.ResourceOptions.merge(
                self._child_opts, pulumi.ResourceOptions(protect=protect, depends_on=[policy, *log_groups])
            ),
        )

    def _final_snapshot(self, identifier: str) -> pulumi.Output[str]:
        # Unique per instance, because the snapshot outlives it: a second destruction leaves another snapshot.
        suffix = random.RandomString("final-snapshot", length=8, special=False, upper=False, opts=self._child_opts)
        return pulumi.Output.format("{0}-final-{1}", identifier, suffix.result)

    def _create_setup(self, cluster: Cluster, node_pools: NodePools) -> DatabaseSetup:
        opts = pulumi.ResourceOptions.merge(
            self._child_opts, pulumi.ResourceOptions(provider=cluster.provider, depends_on=[node_pools, self._instance])
        )
        # Not in Airflow's namespace: users who may read Secrets there must not find the administrator's password.
        namespace = kubernetes.core.v1.Namespace(
            SETUP_NAMESPACE,
            metadata={"name": SETUP_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
            opts=opts,
        )
        return DatabaseSetup(self.admin, namespace.metadata.name.apply(str), POSTGRES_CLIENT_IMAGE, opts)

    def _create_database(
        self,
        name: str,
        components: Sequence[str] = (),
        options: DatabaseOptions = NO_OPTIONS,
    ) -> DatabaseAccess:
        access = self._keep(name, self._access(name, name, self._create_password(name)))
        passwords = {component: self._create_password(f"{name}-{component}") for component in components}
        return self._setup.create(replace(access, component_passwords=passwords), options)

    def _access(self, user: str, database: str, password: pulumi.Output[str]) -> DatabaseAccess:
        authorities = certificates.of_region(self._account.region)
        return DatabaseAccess(self._instance.address, self._instance.port, database, user, password, authorities)

    def _keep(self, purpose: str, access: DatabaseAccess) -> DatabaseAccess:
        """Store the access in Secrets Manager."""
        secret = aws.secretsmanager.Secret(
            f"{purpose}-secret",
            name=self._account.names.path(f"database/{purpose}", Limit.SECRET),
            description=f"Access of the user {access.user} to the database {access.name}",
            kms_key_id=self._key_arn,
            recovery_window_in_days=SECRET_RECOVERY_DAYS if self._account.protect else 0,
            opts=self._child_opts,
        )
        content = pulumi.Output.json_dumps(
            {
                "host": access.host,
                "port": access.port,
                "dbname": access.name,
                "username": access.user,
                "password": access.password,
            }
        )
        aws.secretsmanager.SecretVersion(
            f"{purpose}-secret-value",
            secret_id=secret.id,
            secret_string=content,
            opts=self._child_opts,
        )
        self.secret_arns[purpose] = secret.arn
        return access
