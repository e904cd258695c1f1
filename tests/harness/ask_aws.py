"""One request to Secrets Manager, read as JSON from standard input, answered as JSON on standard output."""

import json
import sys

import boto3
from botocore.exceptions import ClientError


def describe(client, name):
    described = client.describe_secret(SecretId=name)
    listed = client.list_secret_version_ids(SecretId=name, IncludeDeprecated=True)["Versions"]
    stages_of = {version["VersionId"]: version.get("VersionStages", []) for version in listed}
    for version, stages in described.get("VersionIdsToStages", {}).items():
        assert sorted(stages_of.get(version, [])) == sorted(stages), (version, stages, stages_of)
    versions = {
        version: {"stages": sorted(stages), "value": value(client, SecretId=name, VersionId=version)[1]}
        for version, stages in stages_of.items()
    }
    on_stage = {}
    for stage in sorted({stage for stages in stages_of.values() for stage in stages}):
        # Always with the stage: without one the emulator answers with a version that is no longer current.
        version, secret = value(client, SecretId=name, VersionStage=stage)
        assert version is None or stage in stages_of[version], (stage, version, stages_of)
        on_stage[stage] = {"version": version, "value": secret}
    return {"versions": versions, "stages": on_stage}


def value(client, **which):
    try:
        answer = client.get_secret_value(**which)
    except ClientError as error:
        # A version may exist before it has a value.
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return which.get("VersionId"), None
    return answer["VersionId"], answer.get("SecretString")


def main():
    request = json.load(sys.stdin)
    client = boto3.client("secretsmanager")
    try:
        if "describe" in request:
            answer = describe(client, request["describe"])
        else:
            answer = getattr(client, request["operation"])(**request["parameters"])
            answer.pop("ResponseMetadata", None)
        result = {"answer": answer}
    except ClientError as error:
        result = {"error": error.response["Error"]["Code"]}
    json.dump(result, sys.stdout, default=str)


main()
