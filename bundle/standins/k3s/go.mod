module k8slab.capi/bundle/k3s

go 1.25.0

require (
	github.com/klauspost/compress v1.18.6
	golang.org/x/sync v0.19.0
)
