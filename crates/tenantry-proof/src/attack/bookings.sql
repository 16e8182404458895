create extension if not exists btree_gist;
create table booking (
    id int primary key,
    room int not null,
    during int4range not null,
    who text,
    exclude using gist (room with =, during with &&)
);
