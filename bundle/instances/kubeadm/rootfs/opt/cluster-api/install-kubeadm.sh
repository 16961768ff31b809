#!/bin/sh
# Upstream's ClusterClass calls this with a version before kubeadm. There is one in this image, and none is downloaded.
set -eu
wanted=${1:?a version of Kubernetes}
found=$(kubeadm version --output short)
if [ "$found" != "$wanted" ]; then
    echo "this image has kubeadm $found, and $wanted is wanted" >&2
    exit 1
fi
