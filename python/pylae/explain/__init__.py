# SPDX-License-Identifier: Apache-2.0
"""Why did this request fail, and what mends it? Pure functions from a worker's record to a verdict, a document, a drawing."""
