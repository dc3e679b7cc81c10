#!/bin/bash
# User data of an EC2 instance with Debian 12: installs a service folder from S3 and starts it under systemd.
# The instance needs a role that may read the bucket, and a security group that opens the port.
set -euo pipefail

NAME=diabetes
SOURCE=s3://BUCKET/diabetes-service
# SHA-256 of release/manifest.json, which has the digests of all files of the release.
DIGEST=DIGEST
ADDRESS=0.0.0.0:8000
CLIENTS_CALL_IT=predictions.example.org

FOLDER=/opt/labkit/$NAME
apt-get update
apt-get install --yes --no-install-recommends awscli python3-venv
mkdir -p "$FOLDER" /etc/labkit "/etc/systemd/system/labkit-$NAME.socket.d"
aws s3 sync --exact-timestamps --delete "$SOURCE" "$FOLDER"
cd "$FOLDER"
echo "$DIGEST  release/manifest.json" | sha256sum --check
# S3 keeps no permissions.
chmod +x serve
python3 -m venv .venv
.venv/bin/pip install --require-hashes -r requirements.lock
.venv/bin/pip install --no-index --no-deps labkit-*.whl

echo "LABKIT_SERVE_ALLOW_HOST=$CLIENTS_CALL_IT" > "/etc/labkit/$NAME.env"
printf '[Socket]\nListenStream=\nListenStream=%s\n' "$ADDRESS" \
  > "/etc/systemd/system/labkit-$NAME.socket.d/address.conf"
cp "labkit-$NAME.socket" "labkit-$NAME.service" /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now "labkit-$NAME.socket" "labkit-$NAME.service"
