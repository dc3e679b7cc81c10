#!/bin/bash
# User data of an EC2 instance with Debian 12: installs a service folder from S3 and starts it under systemd.
# The instance needs a role that may read the bucket, and a security group that opens the port.
set -euo pipefail

NAME=diabetes
SOURCE=s3://BUCKET/diabetes-service
# SHA-256 of SHA256SUMS, which has the digests of all files of the folder.
DIGEST=DIGEST
ADDRESS=0.0.0.0:8000
CLIENTS_CALL_IT=predictions.example.org

# A folder per digest: what runs is replaced only by what has been verified.
FOLDER=/opt/labkit/$NAME-${DIGEST:0:16}
apt-get update
apt-get install --yes --no-install-recommends awscli python3-venv
mkdir -p /opt/labkit /etc/labkit "/etc/systemd/system/labkit-$NAME.socket.d"
rm -rf "$FOLDER" "$FOLDER.part"
aws s3 cp --recursive --only-show-errors "$SOURCE" "$FOLDER.part"
cd "$FOLDER.part"
echo "$DIGEST  SHA256SUMS" | sha256sum --check --strict
sha256sum --check --strict --quiet SHA256SUMS
# No file that is not listed.
diff <(cut -c 67- SHA256SUMS | LC_ALL=C sort) <(find . -type f ! -path ./SHA256SUMS -printf '%P\n' | LC_ALL=C sort)
mv "$FOLDER.part" "$FOLDER"
cd "$FOLDER"
# S3 keeps no permissions.
chmod +x serve
python3 -m venv .venv
.venv/bin/pip install --require-hashes -r requirements.lock
.venv/bin/pip install --no-index --no-deps labkit-*.whl
# The token that clients send; an earlier one stays.
mkdir -p /etc/credstore
TOKEN=/etc/credstore/labkit-$NAME-token
[ -s "$TOKEN" ] || (umask 077; head -c 32 /dev/urandom | base64 > "$TOKEN")
ln -sfn "$FOLDER" "/opt/labkit/$NAME"

echo "LABKIT_SERVE_ALLOW_HOST=$CLIENTS_CALL_IT" > "/etc/labkit/$NAME.env"
printf '[Socket]\nListenStream=\nListenStream=%s\n' "$ADDRESS" \
  > "/etc/systemd/system/labkit-$NAME.socket.d/address.conf"
cp "labkit-$NAME.socket" "labkit-$NAME.service" /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now "labkit-$NAME.socket" "labkit-$NAME.service"
# Another release than before is served from now on.
systemctl restart "labkit-$NAME.service"
