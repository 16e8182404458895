-- What can be searched for, word by word. Under row security PostgreSQL uses an index only for conditions that are leakproof:
-- `@@`, LIKE and ILIKE are not, a comparison of texts is. So a search is for ranges of words, and reads nothing else.

create table search_words (
    word text collate "C" not null,
    kind text not null check (kind in ('contact', 'project', 'task')),
    item_id uuid not null,
    -- How much it counts: 4 in a name or title, 2 beside it, 1 in a longer text.
    weight smallint not null,
    primary key (word, kind, item_id)
);

create index search_words_of_item on search_words (item_id, kind);

-- The words of an item: of its name, of what stands beside it, of its longer text.
create function search_words_of(name text, beside text, prose text)
returns table (word text, weight smallint) language sql stable
begin atomic
    select w.lexeme, case when 'A' = any (w.weights) then 4 when 'B' = any (w.weights) then 2 else 1 end::smallint
    from unnest(
        setweight(to_tsvector('simple', coalesce(name, '')), 'A')
        || setweight(to_tsvector('simple', coalesce(beside, '')), 'B')
        || setweight(to_tsvector('simple', coalesce(prose, '')), 'D')
    ) as w;
end;

create function search_keep_contact() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then
        delete from search_words where item_id = old.id and kind = 'contact';
    end if;
    if tg_op <> 'DELETE' then
        insert into search_words (word, kind, item_id, weight)
        select w.word, 'contact', new.id, w.weight
        from search_words_of(new.name, concat_ws(' ', new.email, new.phone, new.company), new.notes) as w;
    end if;
    return null;
end $$;

create trigger search_keep after insert or delete or update of id, name, email, phone, company, notes on contacts
    for each row execute function search_keep_contact();

create function search_keep_project() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then
        delete from search_words where item_id = old.id and kind = 'project';
    end if;
    if tg_op <> 'DELETE' then
        insert into search_words (word, kind, item_id, weight)
        select w.word, 'project', new.id, w.weight from search_words_of(new.name, null, new.description) as w;
    end if;
    return null;
end $$;

create trigger search_keep after insert or delete or update of id, name, description on projects
    for each row execute function search_keep_project();

create function search_keep_task() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then
        delete from search_words where item_id = old.id and kind = 'task';
    end if;
    if tg_op <> 'DELETE' then
        insert into search_words (word, kind, item_id, weight)
        select w.word, 'task', new.id, w.weight from search_words_of(new.title, null, new.description) as w;
    end if;
    return null;
end $$;

create trigger search_keep after insert or delete or update of id, title, description on tasks
    for each row execute function search_keep_task();
