# SPDX-License-Identifier: Apache-2.0
"""Would a request get through, and if not, which hop is in its way? Looks actively, from the gateway's own host.

It knows nothing of commands: who calls it hands over the settings and a way to ask the Admin API.
"""
