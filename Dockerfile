FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build

# The clone runs this image's pg_dump, version 15 here, and pg_dump refuses a
# server newer than itself. For newer sources take a newer Debian.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates postgresql-common \
 && sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
 && apt-get install --yes --no-install-recommends postgresql \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --home-dir /var/lib/calco calco \
 && install -d -o calco -g calco -m 700 /var/lib/calco/data
COPY --from=build /src/bin/calco /usr/local/bin/calco
USER calco
WORKDIR /var/lib/calco
ENV CALCO_LISTEN=:8080 CALCO_DATA_DIR=/var/lib/calco/data
VOLUME /var/lib/calco/data
EXPOSE 8080
ENTRYPOINT ["calco"]
CMD ["serve"]
