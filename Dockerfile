# syntax=docker/dockerfile:1
# Two images from one build: `docker build --target atlas .` is the data plane, `docker build --target operator .` the control plane.
# Both hold one static program, run as user 65532 and never write to their root file system.

FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ENV CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -trimpath -ldflags "-s -w" -o /out/atlas ./services && \
    go build -trimpath -ldflags "-s -w" -o /out/operator .

FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532

FROM base AS operator
COPY --from=build /out/operator /operator
ENTRYPOINT ["/operator"]

FROM base AS atlas
COPY --from=build /out/atlas /atlas
EXPOSE 8080 9090
ENTRYPOINT ["/atlas"]
