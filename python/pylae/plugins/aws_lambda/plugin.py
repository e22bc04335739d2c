# SPDX-License-Identifier: Apache-2.0
"""aws-lambda: how does a request become a call of a Lambda function?

Those who offer Lambda functions as an API, without an upstream.
"""

from __future__ import annotations

from pylae.plugins.aws_lambda import config as declared
from pylae.sdk.undone import Undone


class AwsLambda(Undone):
    """Calls an AWS Lambda function and answers with its result."""

    name = "aws-lambda"
    version = "3.10.0"
    priority = 750
    Config = declared.Config
