module github.com/atlas-platform/atlas/hack/devenv/cluster/pause

go 1.26.0
