"""Tenants, as django-tenants wants them declared."""

from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):
    clone_mode = "NODATA"


class Domain(DomainMixin):
    pass
