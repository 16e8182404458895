"""django-tenants as its documentation sets it up, driven by the benchmark.

An order is a JSON line on stdin; the answer is a JSON line with the seconds that it took. Python and Django are loaded
before, so that only the work is counted. The application's tables are made by the same SQL as everybody's, in one message,
without models: that spares Django the work of comparing them.
"""

import importlib
import json
import os
import sys
import time
from contextlib import redirect_stdout

ADDRESS = json.loads(os.environ["PEER_DATABASE"])
HERE = os.path.dirname(os.path.abspath(__file__))
MIGRATIONS = os.path.join(HERE, "crm", "migrations")

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django_tenants.postgresql_backend", **ADDRESS}},
    DATABASE_ROUTERS=("django_tenants.routers.TenantSyncRouter",),
    SHARED_APPS=("django_tenants", "django.contrib.contenttypes", "customers"),
    TENANT_APPS=("crm",),
    INSTALLED_APPS=("django_tenants", "django.contrib.contenttypes", "customers", "crm"),
    TENANT_MODEL="customers.Client",
    TENANT_DOMAIN_MODEL="customers.Domain",
    TENANT_MULTIPROCESSING_MAX_PROCESSES=os.cpu_count(),
    TENANT_CREATION_FAKES_MIGRATIONS=os.environ.get("PEER_CLONES") == "1",
    TENANT_BASE_SCHEMA="template",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from customers.models import Client
from django.core.management import call_command
from django.db import connection


def add_migration(order):
    """Writes the next migration of the application: this SQL."""
    known = sorted(name[:-3] for name in os.listdir(MIGRATIONS) if name[0].isdigit())
    with open(os.path.join(MIGRATIONS, order["name"] + ".py"), "w") as file:
        file.write(
            "from django.db import migrations\n"
            "class Migration(migrations.Migration):\n"
            f"    dependencies = {[('crm', name) for name in known[-1:]]!r}\n"
            f"    operations = [migrations.RunSQL([{order['sql']!r}])]\n"
        )
    importlib.invalidate_caches()


def prepare(_):
    """The tables of the installation, and the schema that others are clones of."""
    call_command("migrate_schemas", shared=True, run_syncdb=True, interactive=False, verbosity=0)
    Client(schema_name="template").save(verbosity=0)


def create(order):
    """Makes tenants, one after the other."""
    for name in order["names"]:
        Client(schema_name=name).save(verbosity=0)


def migrate(order):
    """Brings every tenant to the newest migration."""
    call_command("migrate_schemas", tenant=True, executor=order["executor"], interactive=False, verbosity=0)


def count(order):
    """How many schemas have this column."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from information_schema.columns where table_name = 'contacts' and column_name = %s",
            [order["column"]],
        )
        return cursor.fetchone()[0]


ORDERS = {order.__name__: order for order in (add_migration, prepare, create, migrate, count)}

for line in sys.stdin:
    order = json.loads(line)
    with redirect_stdout(sys.stderr):
        begun = time.perf_counter()
        value = ORDERS[order["do"]](order)
        seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "value": value}), flush=True)
