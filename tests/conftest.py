"""What all tests share."""

import os

from hypothesis import settings

# Tests start processes while gRPC's threads run. With its fork support on, gRPC's own handlers run in each child before
# it has become another program; on a busy machine a child can hang in them. Whoever sets it must do so before grpc is
# imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# An example's wall time says how busy the machine is; a test that hangs is ended by pytest-timeout.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
